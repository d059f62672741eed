-- Renews a lease, or begins one. A lease that has run out is never renewed.
-- KEYS leases, info, claims, sum, version, dead, swept
-- ARGV owner (12 bytes), whether it begins, info, claims, whether it reaps, lease (ms), time to reap (ms), memory of the dead (ms),
--      time between sweeps (ms)
-- Returns whether it was renewed, the version of the membership, the sum of the claims, the owners to be reaped, and whether it is
-- time to sweep.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = ARGV[1]
local until_ = redis.call('ZSCORE', KEYS[1], owner)
local renewed = 0
if until_ and tonumber(until_) > now or not until_ and ARGV[2] == '1' then
  renewed = 1
  redis.call('ZADD', KEYS[1], now + ARGV[6], owner)
  if redis.call('HGET', KEYS[2], owner) ~= ARGV[3] then
    redis.call('HSET', KEYS[2], owner, ARGV[3])
    redis.call('INCR', KEYS[5])
  end
  local held = redis.call('HGET', KEYS[3], owner) or '0'
  if held ~= ARGV[4] then
    redis.call('HSET', KEYS[3], owner, ARGV[4])
    redis.call('INCRBY', KEYS[4], ARGV[4] - held)
  end
end
local reap, sweeps = {}, 0
if ARGV[5] == '1' then
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 16)) do
    local score = tonumber(redis.call('ZSCORE', KEYS[1], dead))
    local reaped = redis.call('HGET', KEYS[6], dead)
    if score + ARGV[8] <= now then
      redis.call('ZREM', KEYS[1], dead)
      redis.call('HDEL', KEYS[6], dead)
    elseif not reaped or reaped + ARGV[7] <= now then
      redis.call('HSET', KEYS[6], dead, now)
      reap[#reap + 1] = dead
    end
    if not reaped then
      local held = redis.call('HGET', KEYS[3], dead)
      if held then redis.call('DECRBY', KEYS[4], held) end
      redis.call('HDEL', KEYS[3], dead)
      redis.call('HDEL', KEYS[2], dead)
      redis.call('INCR', KEYS[5])
    end
  end
  if redis.call('SET', KEYS[7], '', 'NX', 'PX', ARGV[9]) then sweeps = 1 end
end
return {renewed, redis.call('GET', KEYS[5]) or '0', redis.call('GET', KEYS[4]) or '0', reap, sweeps}
