-- Removes some of what a dead owner left in one partition. Returns how much is left, its takeover notices, which stay until they
-- are acknowledged, and how much was removed.
-- KEYS index of the owner, owners, takeover notices of the owner
-- ARGV base, publish command, owner (12 bytes), how much at most, beginning of what is published
-- The index entry is removed last, so that nothing is forgotten if the script fails (a key may have migrated to another server).
-- Entries are c \0 realm \0 id, r \0 namespace \0 room \0 socket, u \0 namespace \0 socket (15 bytes, zeros too).
local base, owner = ARGV[1], ARGV[3]
local function owned(value) return value and string.sub(value, 1, 12) == owner end
local entries = redis.call('SRANDMEMBER', KEYS[1], ARGV[4])
for _, entry in ipairs(entries) do
  local kind = string.sub(entry, 1, 1)
  local zero = string.find(entry, '\0', 3, true)
  local first, rest = string.sub(entry, 3, zero - 1), string.sub(entry, zero + 1)
  if kind == 'c' then
    local claims = base .. 'c:' .. first
    if owned(redis.call('HGET', claims, rest)) then redis.call('HDEL', claims, rest) end
  elseif kind == 'u' then
    if owned(redis.call('HGET', base .. 'u:' .. first, rest)) then
      redis.call('HDEL', base .. 'u:' .. first, rest)
      redis.call('ZREM', base .. 'z:' .. first, rest)
    end
  elseif kind == 'r' then
    local socket = string.sub(rest, -20)
    local name = first .. '\0' .. string.sub(rest, 1, -22)
    local room = base .. 'r:' .. name
    local old = redis.call('HGET', room, socket)
    if owned(old) then
      redis.call('HDEL', room, socket)
      local version = redis.call('HINCRBY', room, '#v', 1)
      local room_version = struct.pack('>I8I8', tonumber(redis.call('HGET', room, '#e')), version)
      redis.call(ARGV[2], base .. 'm:' .. name, ARGV[5] .. room_version .. 'L' .. string.sub(old, 13))
      if redis.call('HLEN', room) <= 2 then redis.call('DEL', room) end
    end
  end
end
if #entries > 0 then redis.call('SREM', KEYS[1], unpack(entries)) end
local left = redis.call('SCARD', KEYS[1])
local notices = redis.call('SMEMBERS', KEYS[3])
if left == 0 and #notices == 0 then redis.call('SREM', KEYS[2], owner) end
return {left, notices, #entries}
