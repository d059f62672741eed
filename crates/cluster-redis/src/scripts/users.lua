-- Puts and removes users; all are of one partition.
-- KEYS index of the owner, owners, then users and order of each namespace
-- ARGV base, owner (12 bytes), count of puts, then namespace, socket (15 bytes), profile of each; then namespace, socket of each
--      that is gone
local base, owner = ARGV[1], ARGV[2]
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  local namespace, socket, profile = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local entry = 'u\0' .. namespace .. '\0' .. socket
  local old = redis.call('HGET', base .. 'u:' .. namespace, socket)
  if old and string.sub(old, 1, 12) ~= owner then
    redis.call('SREM', base .. 'i:' .. string.sub(old, 1, 12), entry)
  end
  redis.call('HSET', base .. 'u:' .. namespace, socket, owner .. profile)
  redis.call('ZADD', base .. 'z:' .. namespace, 0, socket)
  if redis.call('SADD', KEYS[1], entry) == 1 then redis.call('SADD', KEYS[2], owner) end
end
while at < #ARGV do
  local namespace, socket = ARGV[at], ARGV[at + 1]
  at = at + 2
  local old = redis.call('HGET', base .. 'u:' .. namespace, socket)
  if old and string.sub(old, 1, 4) == string.sub(owner, 1, 4) then
    redis.call('SREM', base .. 'i:' .. string.sub(old, 1, 12), 'u\0' .. namespace .. '\0' .. socket)
    redis.call('HDEL', base .. 'u:' .. namespace, socket)
    redis.call('ZREM', base .. 'z:' .. namespace, socket)
  end
end
