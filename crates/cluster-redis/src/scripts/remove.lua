-- Removes a membership record that a node wrote, in whichever epoch, and publishes that.
-- KEYS room
-- ARGV base, publish command, channel, socket, entry of the index, tag (4 bytes), beginning of what is published
local old = redis.call('HGET', KEYS[1], ARGV[4])
if not old or string.sub(old, 1, 4) ~= ARGV[6] then return end
redis.call('SREM', ARGV[1] .. 'i:' .. string.sub(old, 1, 12), ARGV[5])
redis.call('HDEL', KEYS[1], ARGV[4])
local version = redis.call('HINCRBY', KEYS[1], '#v', 1)
local epoch = tonumber(redis.call('HGET', KEYS[1], '#e'))
redis.call(ARGV[2], ARGV[3], ARGV[7] .. struct.pack('>I8I8', epoch, version) .. 'L' .. string.sub(old, 13))
if redis.call('HLEN', KEYS[1]) <= 2 then redis.call('DEL', KEYS[1]) end
