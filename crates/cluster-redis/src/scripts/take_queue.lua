-- The beginning of scripts that give an id a holder: takes the messages that wait for the id, and forgets the waits for it.
local function take_queue(queue, waits_key)
  local waiting = redis.call('LRANGE', queue, 0, -1)
  redis.call('DEL', queue)
  -- Only the waits of senders stay that are told in any case: something of theirs was refused.
  local waits, refused = redis.call('HGETALL', waits_key), {}
  for index = 1, #waits, 2 do
    local field = waits[index]
    if string.sub(field, 1, 1) == 'x' and string.byte(waits[index + 1], 13) >= 2 then refused[string.sub(field, 2)] = true end
  end
  if next(refused) then
    for index = 1, #waits, 2 do
      local kind, sender = string.sub(waits[index], 1, 1), string.sub(waits[index], 2)
      if kind == 's' and not refused[sender] or kind == 'x' and not refused[sender] then
        redis.call('HDEL', waits_key, waits[index])
      elseif kind == 'x' then
        redis.call('HSET', waits_key, waits[index], struct.pack('>I4I4I4B', 0, 0, 0, 2))
      end
    end
    redis.call('HSET', waits_key, 'bytes', 0, 'candidates', 0)
  else
    redis.call('DEL', waits_key)
  end
  return waiting
end
