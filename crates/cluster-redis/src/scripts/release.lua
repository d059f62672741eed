-- Ends a claim of this generation, if this node made it.
-- KEYS claims
-- ARGV base, id, entry of the index, generation (8 bytes), tag (4 bytes)
local old = redis.call('HGET', KEYS[1], ARGV[2])
if old and string.sub(old, 18, 25) == ARGV[4] and string.sub(old, 1, 4) == ARGV[5] then
  redis.call('SREM', ARGV[1] .. 'i:' .. string.sub(old, 1, 12), ARGV[3])
  redis.call('HDEL', KEYS[1], ARGV[2])
end
