-- Ends a lease.
-- KEYS leases, info, claims, sum, version, dead, due, swept, age
-- ARGV owner (12 bytes)
local held = redis.call('HGET', KEYS[3], ARGV[1])
if held then redis.call('DECRBY', KEYS[4], held) end
if redis.call('ZREM', KEYS[1], ARGV[1]) + redis.call('ZREM', KEYS[6], ARGV[1]) > 0 then redis.call('INCR', KEYS[5]) end
redis.call('ZREM', KEYS[7], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
