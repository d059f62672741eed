-- What was revoked behind a number, or all that is.
-- KEYS what is revoked, by the end of its time (s); the same by the number of the revocation; the last number; the names
-- ARGV the number behind which it was revoked, empty for all
-- Returns the last number, empty where there is none, and in turns what is revoked, and the end of its time
local last = redis.call('GET', KEYS[3]) or ''
local revoked = {last}
if last == ARGV[1] then return revoked end
local all = ARGV[1] == '' or last == '' or tonumber(last) < tonumber(ARGV[1])
local list
if all then
  list = redis.call('ZRANGE', KEYS[1], 0, -1)
else
  list = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf')
end
for _, what in ipairs(list) do
  revoked[#revoked + 1] = what
  revoked[#revoked + 1] = redis.call('ZSCORE', KEYS[1], what) or '0'
end
return revoked
