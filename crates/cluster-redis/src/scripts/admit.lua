-- Lets a node hold one more id, if it has a lease and all nodes together then hold no more than they may.
-- KEYS leases, info, claims, sum, version, dead, due, swept, age
-- ARGV owner (12 bytes), how many it holds then, how many all may hold
local time = redis.call('TIME')
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ or tonumber(until_) <= time[1] * 1000 + math.floor(time[2] / 1000) then return 0 end
local more = ARGV[2] - (redis.call('HGET', KEYS[3], ARGV[1]) or '0')
if (redis.call('GET', KEYS[4]) or '0') + more > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('INCRBY', KEYS[4], more)
return 1
