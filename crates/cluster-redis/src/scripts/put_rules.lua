-- Puts rules in force, or writes again what was lost.
-- KEYS the rules (HASH: version, text)
-- ARGV the version that has to be in force; or 'any'; or 'again', a version of the node's own: it is written if Redis has an earlier one;
--      the latest version that the node knows; the text
-- Returns 1 and the version, or 0 and the version that is in force
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
local known = tonumber(ARGV[2])
if ARGV[1] == 'again' then
  if version >= known then return {0, version} end
  redis.call('HSET', KEYS[1], 'version', string.format('%.0f', known), 'text', ARGV[3])
  return {1, known}
end
version = math.max(version, known)
if ARGV[1] ~= 'any' and tonumber(ARGV[1]) ~= version then return {0, version} end
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version + 1), 'text', ARGV[3])
return {1, version + 1}
