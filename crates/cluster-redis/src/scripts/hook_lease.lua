-- Takes a lane, or keeps it: only one node sends what waits in it.
-- KEYS whose it is
-- ARGV the node; for how long (ms), 0 to give it up
-- Returns whether it is the node's
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
