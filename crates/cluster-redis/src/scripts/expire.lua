-- Ends a wait: drops the messages of its sender, and gives the sender's token if the wait was open.
-- KEYS queue, waits
-- ARGV sender, number
local wait = redis.call('HGET', KEYS[2], 's' .. ARGV[1])
if not wait then return false end
local zero = string.find(wait, '\0', 1, true)
if string.sub(wait, 1, zero - 1) ~= ARGV[2] then return false end
redis.call('HDEL', KEYS[2], 's' .. ARGV[1])
local head = struct.pack('>I2', #ARGV[1]) .. ARGV[1]
local bytes = tonumber(redis.call('HGET', KEYS[2], 'bytes') or '0')
for _, message in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(message, 1, #head) == head then
    redis.call('LREM', KEYS[1], 1, message)
    bytes = bytes - (#message - #head - 1)
  end
end
-- The bytes are all that is left.
if redis.call('HLEN', KEYS[2]) == 1 then
  redis.call('DEL', KEYS[1], KEYS[2])
else
  redis.call('HSET', KEYS[2], 'bytes', bytes)
end
return string.sub(wait, zero + 1)
