-- Claims an id again after the store or the lease was lost. Of two claims the one with the lower standing stays, then the lower
-- generation, then the lower tag.
-- KEYS claims, index of the owner, queue, waits
-- ARGV base, id, entry of the index, claim (its first 12 bytes: the owner)
local function rank(claim)
  return string.sub(claim, 26, 26) .. string.sub(claim, 18, 25) .. string.sub(claim, 1, 4)
end
local old = redis.call('HGET', KEYS[1], ARGV[2])
local superseded = ''
if old then
  local owner = string.sub(ARGV[4], 1, 4) .. string.sub(ARGV[4], 13, 25)
  local own = string.sub(old, 1, 4) .. string.sub(old, 13, 25) == owner
  if not own then
    if rank(old) < rank(ARGV[4]) then return {'taken'} end
    superseded = string.sub(old, 1, 25)
  end
  redis.call('SREM', ARGV[1] .. 'i:' .. string.sub(old, 1, 12), ARGV[3])
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[3])
local waiting = redis.call('LRANGE', KEYS[3], 0, -1)
redis.call('DEL', KEYS[3], KEYS[4])
return {'kept', superseded, waiting}
