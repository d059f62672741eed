-- Looks after the secrets that we share with coturn, in one step: another secret where one is due, old ones out, the rest in.
--
-- KEYS[1]: what we know of them. KEYS[2]: coturn's set.
-- ARGV: a new secret; milliseconds between two rotations, 0 for none; milliseconds after which an old secret is out; "1" to rotate now.
-- Returns the number of the newest secret, the secret, how many are in, and 1 if it has rotated.
--
-- Time is counted in steps, of which none is longer than a minute: a clock that jumps rotates nothing, and drops nothing.
local longest_step = 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = KEYS[1]

local last = tonumber(redis.call('HGET', known, 'last') or now)
local clock = tonumber(redis.call('HGET', known, 'clock') or 0)
clock = clock + math.max(0, math.min(now - last, longest_step))
redis.call('HSET', known, 'last', now, 'clock', clock)

local newest = tonumber(redis.call('HGET', known, 'newest') or 0)
local oldest = tonumber(redis.call('HGET', known, 'oldest') or 1)
local every, keep = tonumber(ARGV[2]), tonumber(ARGV[3])
local added = tonumber(redis.call('HGET', known, 'added:' .. newest) or 0)
local rotates = newest == 0 or ARGV[4] == '1' or (every > 0 and clock - added >= every)
if rotates then
    newest = newest + 1
    redis.call('HSET', known, 'newest', newest, 'added:' .. newest, clock, 'secret:' .. newest, ARGV[1])
end

-- A secret is out once the one after it has signed for long enough. Whatever became of coturn's set, it has the others.
for number = oldest, newest do
    local secret = redis.call('HGET', known, 'secret:' .. number)
    local successor = redis.call('HGET', known, 'added:' .. (number + 1))
    if secret and successor and clock - tonumber(successor) >= keep then
        redis.call('SREM', KEYS[2], secret)
        redis.call('HDEL', known, 'secret:' .. number, 'added:' .. number)
        oldest = number + 1
    elseif secret then
        redis.call('SADD', KEYS[2], secret)
    end
end
redis.call('HSET', known, 'oldest', oldest)
return { newest, redis.call('HGET', known, 'secret:' .. newest), newest - oldest + 1, rotates and 1 or 0 }
