-- Puts a membership record, and publishes the change. A record that does not change only changes its owner. With the tag of a former
-- owner, a record of that node keeps its content and changes its owner.
-- KEYS room, index of the owner, owners
-- ARGV base, publish command, channel, socket, entry of the index, owner (12 bytes), record, tag of the former owner or empty,
--      whether records are wanted, epoch and version that are known, beginning of what is published, most members or 0
-- Returns epoch, version and the number of members, and the records; 'full' alone if there is no place for a new member.
-- A room whose version is before the known one has lost writes: it begins a later epoch, so that no version means two things.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local old = redis.call('HGET', KEYS[1], ARGV[4])
local most = tonumber(ARGV[13])
-- Beside its members a room has two fields of its own.
if most > 0 and not old and redis.call('HLEN', KEYS[1]) - 2 >= most then return {'full'} end
local epoch = redis.call('HGET', KEYS[1], '#e')
if not epoch then
  epoch = string.format('%.0f', clock())
  redis.call('HSET', KEYS[1], '#e', epoch, '#v', '0')
end
local before = redis.call('HGET', KEYS[1], '#v')
local known, behind = tonumber(ARGV[10]), tonumber(epoch)
if known > behind or known == behind and tonumber(ARGV[11]) > tonumber(before) then
  epoch = string.format('%.0f', math.max(clock(), known + 1))
  before = string.format('%.0f', before + 1)
  redis.call('HSET', KEYS[1], '#e', epoch, '#v', before)
end
local record = ARGV[7]
local changed = not old or string.sub(old, 13) ~= record
if old and ARGV[8] ~= '' and string.sub(old, 1, 4) == ARGV[8] then
  changed = false
  record = string.sub(old, 13)
end
if old and string.sub(old, 1, 12) ~= ARGV[6] then
  redis.call('SREM', ARGV[1] .. 'i:' .. string.sub(old, 1, 12), ARGV[5])
end
redis.call('HSET', KEYS[1], ARGV[4], ARGV[6] .. record)
if redis.call('SADD', KEYS[2], ARGV[5]) == 1 then redis.call('SADD', KEYS[3], ARGV[6]) end
local version = before
if changed then
  version = tostring(redis.call('HINCRBY', KEYS[1], '#v', 1))
  local room_version = struct.pack('>I8I8', tonumber(epoch), tonumber(version))
  redis.call(ARGV[2], ARGV[3], ARGV[12] .. room_version .. (old and 'U' or 'J') .. record)
end
local count = tostring(redis.call('HLEN', KEYS[1]) - 2)
-- Who knows the room in this epoch gets what it lacks as changes.
if ARGV[9] == '1' and ARGV[10] ~= epoch then
  return {epoch, version, count, redis.call('HGETALL', KEYS[1])}
end
return {epoch, version, count}
