-- Ends a wait: drops the messages of its sender, and gives the sender's token if the wait was open.
-- KEYS queue, waits
-- ARGV sender, number
local wait = redis.call('HGET', KEYS[2], 's' .. ARGV[1])
if not wait then return false end
local zero = string.find(wait, '\0', 1, true)
if string.sub(wait, 1, zero - 1) ~= ARGV[2] then return false end
local CANDIDATE = '{"type":"CANDIDATE"'
local share = redis.call('HGET', KEYS[2], 'x' .. ARGV[1])
-- A node of an earlier version keeps no shares: then all of the queue is looked through.
local left = redis.call('LLEN', KEYS[1])
local length = left
if share then left = math.min(left, (struct.unpack('>I4', share))) end
redis.call('HDEL', KEYS[2], 's' .. ARGV[1], 'x' .. ARGV[1])
local head = struct.pack('>I2', #ARGV[1]) .. ARGV[1]
local gone = {}
for first = 0, length - 1, 64 do
  if #gone >= left then break end
  for _, message in ipairs(redis.call('LRANGE', KEYS[1], first, first + 63)) do
    if string.sub(message, 1, #head) == head then gone[#gone + 1] = message end
  end
end
local function count(field) return tonumber(redis.call('HGET', KEYS[2], field) or '0') end
local bytes, candidates = count('bytes'), count('candidates')
for _, message in ipairs(gone) do
  redis.call('LREM', KEYS[1], 1, message)
  bytes = bytes - (#message - #head - 1)
  if string.sub(message, #head + 2, #head + 1 + #CANDIDATE) == CANDIDATE then candidates = candidates - 1 end
end
redis.call('HSET', KEYS[2], 'bytes', bytes, 'candidates', candidates)
-- These two are all that is left.
if redis.call('HLEN', KEYS[2]) == 2 then redis.call('DEL', KEYS[1], KEYS[2]) end
return string.sub(wait, zero + 1)
