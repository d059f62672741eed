-- Finds the holder of an id, or queues a message for it.
-- KEYS claims, queue, waits, numbers
-- ARGV id, forced, sender, message, token, time to live (ms), whether its kind is queued, whether it is a CANDIDATE, most messages,
-- most bytes, most messages of one sender, most bytes of one sender
-- A queued message is the length of the sender's id (2), the id, the message: whether it is binary (1) and its payload, whose bytes
-- count. A wait is its number, a zero, the sender's token. A share is what a sender has in the queue: messages (4), bytes (4),
-- CANDIDATEs (4), and flags (1): 1, an OFFER or ANSWER is there; 2, something was refused, so that the sender is told also when the
-- id is claimed.
if ARGV[2] ~= '1' then
  local claim = redis.call('HGET', KEYS[1], ARGV[1])
  if claim then return {'holder', string.sub(claim, 1, 25)} end
end
if ARGV[7] ~= '1' then return {'dropped'} end
local CANDIDATE = '{"type":"CANDIDATE"'
local opened = ''
local wait = 's' .. ARGV[3]
local size = #ARGV[4] - 1
local is_candidate = ARGV[8] == '1'
local function count(field) return tonumber(redis.call('HGET', KEYS[3], field) or '0') end
local bytes, candidates, messages = count('bytes'), count('candidates'), redis.call('LLEN', KEYS[2])
if redis.call('HEXISTS', KEYS[3], wait) == 0 then
  opened = tostring(redis.call('INCR', KEYS[4]))
  redis.call('HSET', KEYS[3], wait, opened .. '\0' .. ARGV[5])
end
local function share_of(sender)
  local packed = redis.call('HGET', KEYS[3], 'x' .. sender)
  if packed then return {struct.unpack('>I4I4I4B', packed)} end
  local share = {0, 0, 0, 0}
  if sender == ARGV[3] and opened ~= '' then return share end
  -- A node of the previous version opened the wait: it keeps no shares.
  local head = struct.pack('>I2', #sender) .. sender
  for _, message in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    if string.sub(message, 1, #head) == head then
      share[1], share[2] = share[1] + 1, share[2] + #message - #head - 1
      if string.sub(message, #head + 2, #head + 1 + #CANDIDATE) == CANDIDATE then
        share[3] = share[3] + 1
      else
        share[4] = 1
      end
    end
  end
  return share
end
local function keep_share(sender, share)
  local packed = struct.pack('>I4I4I4B', math.max(share[1], 0), math.max(share[2], 0), math.max(share[3], 0), share[4])
  redis.call('HSET', KEYS[3], 'x' .. sender, packed)
end
local share = share_of(ARGV[3])
-- Drops the oldest CANDIDATE, of this sender or of anybody.
local function displace(of_sender)
  for first = 0, messages - 1, 64 do
    for _, message in ipairs(redis.call('LRANGE', KEYS[2], first, first + 63)) do
      local length = struct.unpack('>I2', message)
      local sender = string.sub(message, 3, length + 2)
      local kind = string.sub(message, length + 4, length + 3 + #CANDIDATE)
      if kind == CANDIDATE and (not of_sender or sender == ARGV[3]) then
        redis.call('LREM', KEYS[2], 1, message)
        local gone = #message - length - 3
        messages, bytes, candidates = messages - 1, bytes - gone, candidates - 1
        local other = sender == ARGV[3] and share or share_of(sender)
        other[1], other[2], other[3] = other[1] - 1, other[2] - gone, other[3] - 1
        if other[4] == 0 then other[4] = 2 end
        if other ~= share then keep_share(sender, other) end
        return true
      end
    end
  end
  return false
end
local kept, displaced = 0, 0
if size <= tonumber(ARGV[12]) and not (is_candidate and share[4] == 2) then
  while kept == 0 do
    local of_sender = share[1] >= tonumber(ARGV[11]) or share[2] + size > tonumber(ARGV[12])
    if not of_sender and messages < tonumber(ARGV[9]) and bytes + size <= tonumber(ARGV[10]) then
      kept = 1
    else
      local left = candidates
      if of_sender then left = share[3] end
      if is_candidate or left <= 0 or not displace(of_sender) then break end
      displaced = displaced + 1
    end
  end
end
local has_call = share[4] % 2 == 1
if kept == 1 then
  redis.call('RPUSH', KEYS[2], struct.pack('>I2', #ARGV[3]) .. ARGV[3] .. ARGV[4])
  bytes, share[1], share[2] = bytes + size, share[1] + 1, share[2] + size
  if is_candidate then
    candidates, share[3] = candidates + 1, share[3] + 1
  elseif not has_call then
    share[4] = share[4] + 1
  end
elseif share[4] < 2 and not (is_candidate and has_call) then
  share[4] = share[4] + 2
end
keep_share(ARGV[3], share)
-- These two are always there, so that the length of the hash tells whether anybody waits.
redis.call('HSET', KEYS[3], 'bytes', bytes, 'candidates', candidates)
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[6])
return {'queued', opened, kept, displaced}
