-- Finds the holder of an id, or queues a message for it.
-- KEYS claims, queue, waits, numbers
-- ARGV id, forced, sender, message, token, time to live (ms), whether its kind is queued, most messages, most bytes
-- A queued message is the length of the sender's id (2), the id, the message: whether it is binary (1) and its payload, whose bytes
-- count. A wait is its number, a zero, the sender's token.
if ARGV[2] ~= '1' then
  local claim = redis.call('HGET', KEYS[1], ARGV[1])
  if claim then return {'holder', string.sub(claim, 1, 25)} end
end
if ARGV[7] ~= '1' then return {'dropped'} end
local opened = ''
local wait = 's' .. ARGV[3]
local size = #ARGV[4] - 1
local bytes = tonumber(redis.call('HGET', KEYS[3], 'bytes') or '0')
if redis.call('HEXISTS', KEYS[3], wait) == 0 then
  opened = tostring(redis.call('INCR', KEYS[4]))
  -- The bytes are always there, so that the length of the hash tells whether anybody waits.
  redis.call('HSET', KEYS[3], wait, opened .. '\0' .. ARGV[5], 'bytes', bytes)
end
local kept = 0
if redis.call('LLEN', KEYS[2]) < tonumber(ARGV[8]) and bytes + size <= tonumber(ARGV[9]) then
  redis.call('RPUSH', KEYS[2], struct.pack('>I2', #ARGV[3]) .. ARGV[3] .. ARGV[4])
  redis.call('HSET', KEYS[3], 'bytes', bytes + size)
  kept = 1
end
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[6])
return {'queued', opened, kept}
