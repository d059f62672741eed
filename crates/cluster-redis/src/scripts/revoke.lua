-- Revokes tokens: each is kept for as long as anybody says. What is over is forgotten. Of what has a name the one with the latest time
-- takes the place of the others, so that there is one for each name.
-- KEYS what is revoked, by the end of its time (s); the same by the number of the revocation; the last number; the names
-- ARGV most that are kept with a name, and without; the time that stands for ever; the name for which there is always room;
-- then in fours what is revoked, the end of its time, its name (empty for none), and the time that it revokes before
-- Returns whether there was room for all of them
-- The names are "n" and a name: the time and what is revoked; "w" and what is revoked: its name.
local time = redis.call('TIME')
local function forget(what)
  redis.call('ZREM', KEYS[1], what)
  redis.call('ZREM', KEYS[2], what)
  local name = redis.call('HGET', KEYS[4], 'w' .. what)
  if name then redis.call('HDEL', KEYS[4], 'w' .. what, 'n' .. name) end
end
for _, what in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time[1], 'LIMIT', 0, 1000)) do forget(what) end
-- Later than any before, also where what is kept was lost.
local number = math.max((redis.call('GET', KEYS[3]) or 0) + 1, time[1] * 1000000 + time[2])
local changed, refused = false, false
local function ends(what) return tonumber(redis.call('ZSCORE', KEYS[1], what) or 0) end
local function keep(what, until_)
  if ends(what) >= until_ then return end
  redis.call('ZADD', KEYS[1], string.format('%.0f', until_), what)
  redis.call('ZADD', KEYS[2], string.format('%.0f', number), what)
  changed = true
end
local function has_room(name)
  if name == ARGV[3] then return true end
  local named = redis.call('HLEN', KEYS[4]) / 2
  if name ~= '' then return named < tonumber(ARGV[1]) end
  return redis.call('ZCARD', KEYS[1]) - named < tonumber(ARGV[1])
end
local function revoke(what, until_, name, before)
  -- Also of a token that has expired all nodes are to hear: something may have been opened with it that is there still.
  until_ = math.max(until_, time[1] + 5)
  if ends(what) > 0 then return keep(what, until_) end
  local at, older
  if name ~= '' then at, older = string.match(redis.call('HGET', KEYS[4], 'n' .. name) or '', '^(%d+) (.*)$') end
  if older and tonumber(at) >= tonumber(before) then return keep(older, until_) end
  if older then
    until_ = math.max(until_, ends(older))
    forget(older)
  elseif not has_room(name) then
    refused = true
    return
  end
  if name ~= '' then redis.call('HSET', KEYS[4], 'n' .. name, before .. ' ' .. what, 'w' .. what, name) end
  keep(what, until_)
end
for i = 4, #ARGV, 4 do revoke(ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]) end
if changed then
  redis.call('SET', KEYS[3], string.format('%.0f', number))
  local latest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
  for _, key in ipairs(KEYS) do
    if tonumber(latest) >= tonumber(ARGV[2]) then
      redis.call('PERSIST', key)
    else
      redis.call('EXPIREAT', key, latest)
    end
  end
end
if refused then return 0 end
return 1
