-- Counts one more for each name, unless it is one too many for any of them.
--
-- KEYS: counters. ARGV: milliseconds for which they are kept, then the limit of each.
-- Returns 0, or the number of the first counter that is full.
for number, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[number + 1]) then
        return number
    end
end
for _, key in ipairs(KEYS) do
    if redis.call('INCR', key) == 1 then
        redis.call('PEXPIRE', key, ARGV[1])
    end
end
return 0
