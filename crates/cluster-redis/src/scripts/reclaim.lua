-- Claims an id again after the store, the lease or the bus was lost. Of two claims the one with the lower rank wins, then the one with
-- the lower generation, then the one with the lower tag. With the same token it is the same client: its later connection wins.
-- KEYS claims, index of the owner, owners, takeover notices of the owner, queue, waits
-- ARGV base, id, entry of the index, claim (its first 12 bytes: the owner)
-- Numbers are compared as such: how strings compare depends on the server's locale.
local function generation(claim) return (struct.unpack('>I8', string.sub(claim, 18, 25))) end
local function tag(claim) return (struct.unpack('>I4', string.sub(claim, 1, 4))) end
local function outranks(one, other)
  local a, b = string.byte(one, 26), string.byte(other, 26)
  if a ~= b then return a < b end
  if generation(one) ~= generation(other) then return generation(one) < generation(other) end
  return tag(one) < tag(other)
end
local old = redis.call('HGET', KEYS[1], ARGV[2])
local superseded = ''
if old then
  local owner = string.sub(ARGV[4], 1, 4) .. string.sub(ARGV[4], 13, 25)
  local own = string.sub(old, 1, 4) .. string.sub(old, 13, 25) == owner
  if not own then
    local stays
    if string.sub(old, 27) == string.sub(ARGV[4], 27) then
      local a, b = generation(old), generation(ARGV[4])
      stays = a > b or a == b and tag(old) > tag(ARGV[4])
    else
      stays = outranks(old, ARGV[4])
    end
    if stays then return {'taken'} end
    superseded = string.sub(old, 1, 25)
    if tag(old) ~= tag(ARGV[4]) then
      -- Kept until its node has been told.
      redis.call('SADD', KEYS[4], string.sub(ARGV[3], 3) .. superseded)
    end
  end
  redis.call('SREM', ARGV[1] .. 'i:' .. string.sub(old, 1, 12), ARGV[3])
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
if redis.call('SADD', KEYS[2], ARGV[3]) == 1 then redis.call('SADD', KEYS[3], string.sub(ARGV[4], 1, 12)) end
local waiting = take_queue(KEYS[5], KEYS[6])
return {'kept', superseded, waiting}
