-- Counts what an allocation has relayed.
--
-- KEYS: what is counted of the allocation; the hour's; the day's; the day's of all.
-- ARGV: the user; bytes; "1" if they are all that it has relayed ever; seconds for which the hour is kept, and the day.
-- Messages may be lost while nobody listens: the last one, with the sum, makes up for it.
local bytes = tonumber(ARGV[2])
if ARGV[3] == '1' then
    bytes = bytes - tonumber(redis.call('GET', KEYS[1]) or 0)
    redis.call('DEL', KEYS[1])
else
    redis.call('INCRBY', KEYS[1], bytes)
    redis.call('EXPIRE', KEYS[1], ARGV[5])
end
if bytes > 0 then
    redis.call('HINCRBY', KEYS[2], ARGV[1], bytes)
    redis.call('EXPIRE', KEYS[2], ARGV[4])
    redis.call('HINCRBY', KEYS[3], ARGV[1], bytes)
    redis.call('EXPIRE', KEYS[3], ARGV[5])
    redis.call('INCRBY', KEYS[4], bytes)
end
return bytes
