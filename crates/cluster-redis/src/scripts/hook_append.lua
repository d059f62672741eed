-- Puts what is to be sent behind what waits already. What the nodes tell of each other is kept once: each of them sees it for itself.
-- KEYS the lane (stream); the nodes that are there (set)
-- ARGV most that may wait in the lane; for how long the set is kept (s); then in threes: the node that it is about or nothing, whether that
--      has come (1) or gone (0), and the text
-- Returns how many were taken, from the first on; fewer than were given if there is no room
local waiting, taken = redis.call('XLEN', KEYS[1]), 0
for i = 3, #ARGV, 3 do
  local node, is_there, is_new = ARGV[i], ARGV[i + 1] == '1', true
  if node ~= '' then
    local known = redis.call('SISMEMBER', KEYS[2], node) == 1
    is_new = known ~= is_there
  end
  if is_new then
    if waiting >= tonumber(ARGV[1]) then break end
    redis.call('XADD', KEYS[1], '*', 'e', ARGV[i + 2])
    waiting = waiting + 1
    if node ~= '' then redis.call(is_there and 'SADD' or 'SREM', KEYS[2], node) end
  end
  taken = taken + 1
end
redis.call('EXPIRE', KEYS[2], ARGV[2])
return taken
