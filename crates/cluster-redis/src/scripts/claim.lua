-- Claims an id, or takes it over from a holder with the same token. Returns the messages that wait for the id.
-- KEYS claims, index of the owner, owners, takeover notices of the owner, queue, waits, takeovers
-- ARGV base, id, entry of the index, owner .. shard .. key (17 bytes), token, full, most takeovers, and where there is one the token in its other form
-- A claim is owner (12) shard (1) key (4) generation (8) rank (1) token.
local old = redis.call('HGET', KEYS[1], ARGV[2])
local time = redis.call('TIME')
local generation = time[1] * 1000000 + time[2]
local superseded = ''
if old then
  local token = string.sub(old, 27)
  if token ~= ARGV[5] and token ~= ARGV[8] then return {'taken'} end
  -- Two clients fight for the id: it stays whose it is for a while.
  if tonumber(redis.call('GET', KEYS[7]) or '0') >= tonumber(ARGV[7]) then return {'taken'} end
  generation = math.max(generation, struct.unpack('>I8', string.sub(old, 18, 25)) + 1)
  superseded = string.sub(old, 1, 25)
  redis.call('SREM', ARGV[1] .. 'i:' .. string.sub(old, 1, 12), ARGV[3])
  if string.sub(old, 1, 4) ~= string.sub(ARGV[4], 1, 4) then
    -- Kept until its node has been told.
    redis.call('SADD', KEYS[4], string.sub(ARGV[3], 3) .. superseded)
  end
elseif ARGV[6] == '1' then
  return {'full'}
end
local packed = struct.pack('>I8', generation)
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4] .. packed .. '\0' .. ARGV[5])
if redis.call('SADD', KEYS[2], ARGV[3]) == 1 then redis.call('SADD', KEYS[3], string.sub(ARGV[4], 1, 12)) end
local waiting = take_queue(KEYS[5], KEYS[6])
return {'granted', packed, superseded, waiting}
