-- Revokes tokens: each is kept for as long as anybody says. What is over is forgotten.
-- KEYS what is revoked, by the end of its time (s); the same by the number of the revocation; the last number
-- ARGV most that are kept, now (s), the time that stands for ever, then in turns what is revoked, and the end of its time
-- Returns whether there was room for all of them
for _, what in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[1], what)
  redis.call('ZREM', KEYS[2], what)
end
local time = redis.call('TIME')
-- Later than any before, also where what is kept was lost.
local number = math.max((redis.call('GET', KEYS[3]) or 0) + 1, time[1] * 1000000 + time[2])
local room, changed = ARGV[1] - redis.call('ZCARD', KEYS[1]), false
for i = 4, #ARGV, 2 do
  local known = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if not known then room = room - 1 end
  if room < 0 then break end
  if not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i])
    redis.call('ZADD', KEYS[2], string.format('%.0f', number), ARGV[i])
    changed = true
  end
end
if changed then
  redis.call('SET', KEYS[3], string.format('%.0f', number))
  local latest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
  for _, key in ipairs(KEYS) do
    if tonumber(latest) >= tonumber(ARGV[3]) then
      redis.call('PERSIST', key)
    else
      redis.call('EXPIREAT', key, latest)
    end
  end
end
if room < 0 then return 0 end
return 1
