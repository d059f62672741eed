-- The time of the server that keeps what is revoked.
-- KEYS any key of the partition
-- Returns the time (s)
return redis.call('TIME')[1]
