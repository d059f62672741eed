-- Counts a takeover of an id whose holder was alive.
-- KEYS takeovers
-- ARGV how long it counts (ms)
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
