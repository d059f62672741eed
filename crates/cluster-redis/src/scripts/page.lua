-- A page of the users of one partition: sockets and what is kept of them.
-- KEYS users, order
-- ARGV where to begin (as ZRANGEBYLEX takes it), how many
local sockets = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
if #sockets == 0 then return {} end
return {sockets, redis.call('HMGET', KEYS[1], unpack(sockets))}
