-- The rules that all nodes have, if they are later than some version.
-- KEYS the rules (HASH: version, text)
-- ARGV a version
-- Returns the version, and the text if it is later
local rules = redis.call('HMGET', KEYS[1], 'version', 'text')
local version = rules[1] or '0'
if tonumber(version) > tonumber(ARGV[1]) then return {version, rules[2] or ''} end
return {version}
