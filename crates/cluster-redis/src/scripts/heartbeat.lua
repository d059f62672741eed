-- Renews a lease, or begins one. An expired lease is never renewed.
-- The first node that reaps moves an expired lease to the dead, where it is remembered from then on: however late that is, its owner's
-- records are reaped. Each heartbeat takes some, those that have waited longest first.
-- KEYS leases, info, claims, sum, version, dead, due, swept, age
-- ARGV owner (12 bytes), whether it begins, info, claims, whether it reaps, lease (ms), time to reap (ms), memory of the dead (ms),
--      most at once, time between sweeps (ms), time in which nodes write everything again (ms)
-- Returns whether it was renewed, the version of the membership, the sum of the claims, the owners to be reaped, whether it is time to
-- sweep (to look for records whose lease is not even remembered), and whether all has been kept for longer than nodes may take to
-- write everything again.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = ARGV[1]
local until_ = redis.call('ZSCORE', KEYS[1], owner)
local renewed = 0
local begins = not until_ and ARGV[2] == '1' and not redis.call('ZSCORE', KEYS[6], owner)
if begins or until_ and tonumber(until_) > now then
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
  local function until_now(key, now) return redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, ARGV[9]) end
  for _, dead in ipairs(until_now(KEYS[6], now - ARGV[8])) do
    redis.call('ZREM', KEYS[6], dead)
    redis.call('ZREM', KEYS[7], dead)
  end
  for _, dead in ipairs(until_now(KEYS[1], now)) do
    redis.call('ZREM', KEYS[1], dead)
    redis.call('ZADD', KEYS[6], now, dead)
    redis.call('ZADD', KEYS[7], now, dead)
    local held = redis.call('HGET', KEYS[3], dead)
    if held then redis.call('DECRBY', KEYS[4], held) end
    redis.call('HDEL', KEYS[3], dead)
    redis.call('HDEL', KEYS[2], dead)
    redis.call('INCR', KEYS[5])
  end
  reap = until_now(KEYS[7], now)
  for _, dead in ipairs(reap) do redis.call('ZADD', KEYS[7], now + ARGV[7], dead) end
  if redis.call('SET', KEYS[8], '', 'NX', 'PX', ARGV[10]) then sweeps = 1 end
end
redis.call('SET', KEYS[9], string.format('%.0f', now), 'NX')
local whole = 0
if now - redis.call('GET', KEYS[9]) >= tonumber(ARGV[11]) then whole = 1 end
return {renewed, redis.call('GET', KEYS[5]) or '0', redis.call('GET', KEYS[4]) or '0', reap, sweeps, whole}
