-- Counts a connection of a subject, unless as many are as may be. One that is there only changes its owner. It stands as a user does.
-- KEYS connections, the same in order, index of the owner, owners
-- ARGV base, owner (12 bytes), connection (15 bytes), entry of the index, most
-- Returns whether it is counted
local old = redis.call('HGET', KEYS[1], ARGV[3])
if not old and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return 0 end
if old and string.sub(old, 1, 12) ~= ARGV[2] then
  redis.call('SREM', ARGV[1] .. 'i:' .. string.sub(old, 1, 12), ARGV[4])
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[3])
if redis.call('SADD', KEYS[3], ARGV[4]) == 1 then redis.call('SADD', KEYS[4], ARGV[2]) end
return 1
