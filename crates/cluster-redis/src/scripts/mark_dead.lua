-- Marks owners dead that have records but no lease, not even an expired one: the store lost it. Ignored unless the node that asks has
-- a lease.
-- KEYS leases, info, claims, sum, version, dead, due, swept, age
-- ARGV owner who asks (12 bytes), owners with records
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not own or tonumber(own) <= now then return end
for i = 2, #ARGV do
  if not redis.call('ZSCORE', KEYS[6], ARGV[i]) then redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i]) end
end
