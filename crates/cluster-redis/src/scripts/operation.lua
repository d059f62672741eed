-- Writes a long operation, if nobody else has written it since. `OperationTable` is the model.
-- KEYS those that run; those that are over: hashes of "version began written subject", a line feed and the text
-- ARGV id, version before (0: it is new), whether it is over, began (ms), subject, most that run or are kept, for how long those that run are
-- kept without a change (s), the same of those that are over, text
-- Returns 1 and the version; 2: it has another version, or is over; 3 and the id of another that runs about the subject; 4: too many run
local HEAD = '^(%d+) (%d+) (%d+) ([^\n]*)\n'
local now, most = tonumber(redis.call('TIME')[1]), tonumber(ARGV[6])
local version = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', HEAD) or 0)
if version ~= tonumber(ARGV[2]) or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return {2} end
local is_over = ARGV[3] == '1'
if version == 0 and not is_over then
  local running, count = redis.call('HGETALL', KEYS[1]), 0
  for i = 1, #running, 2 do
    local _, _, written, subject = string.match(running[i + 1], HEAD)
    if not written or tonumber(written) + tonumber(ARGV[7]) < now then
      -- No node goes on with it, or can read it.
      redis.call('HDEL', KEYS[1], running[i])
    elseif subject == ARGV[5] then
      return {3, running[i]}
    else
      count = count + 1
    end
  end
  if count >= most then return {4} end
end
local head = {string.format('%.0f', version + 1), ARGV[4], string.format('%.0f', now), ARGV[5]}
local stored = table.concat(head, ' ') .. '\n' .. ARGV[9]
if not is_over then
  redis.call('HSET', KEYS[1], ARGV[1], stored)
  redis.call('EXPIRE', KEYS[1], ARGV[7])
  return {1, version + 1}
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], stored)
redis.call('EXPIRE', KEYS[2], ARGV[8])
if redis.call('HLEN', KEYS[2]) > most then
  local over, oldest = redis.call('HGETALL', KEYS[2]), {}
  for i = 1, #over, 2 do
    oldest[#oldest + 1] = {tonumber(select(2, string.match(over[i + 1], HEAD)) or 0), over[i]}
  end
  table.sort(oldest, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  for i = 1, #oldest - most do redis.call('HDEL', KEYS[2], oldest[i][2]) end
end
return {1, version + 1}
