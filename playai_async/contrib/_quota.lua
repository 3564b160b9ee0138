-- One exchange with a shared quota: what a process tells is written down, and what it asks for is granted or put off.
--
-- Redis runs it as one step, by its own clock alone: all that processes tell is how long from now something is.
-- Times are microseconds since the epoch, which a double holds exactly.
--
-- KEYS  places: each request that counts, by the time it counts no more
--       queue:  the processes that wait for a turn, in the order of their turns
--       heard:  those that have anything to send, by when they asked last
--       state:  era, tokens, counted_at, turns, closed, closed_until, closing, probe, probe_until, grace_until
-- ARGV  the ask and the terms, as JSON
local places, queue, heard, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ask = cjson.decode(ARGV[1])

local function micro(seconds) return math.floor(seconds * 1000000 + 0.5) end
local function whole(number) return string.format('%.0f', number) end
local function get(field) return tonumber(redis.call('HGET', state, field) or '0') end
local function set(field, value) redis.call('HSET', state, field, value) end
local function place(number) return ask.process .. ':' .. whole(number) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local spacing = micro(ask.window) / ask.requests
local keep = micro(ask.window) + micro(ask.lease)

-- An era ends when all is forgotten. Whoever remembers the one before tells all that they know; until they had the time
-- for it, nothing is granted.
local era = redis.call('HGET', state, 'era')
if not era then
    era = ask.new_era
    set('era', era)
    set('tokens', ask.burst)
    set('counted_at', whole(now))
    if ask.era ~= cjson.null then set('grace_until', whole(now + micro(ask.grace))) end
end

-- What is told. A process that was granted the one probe, and tells of its end, lets another be sent.
local probe = redis.call('HGET', state, 'probe')
for _, told in ipairs(ask.places) do
    local member = place(told[1])
    redis.call('ZADD', places, whole(now + micro(told[2])), member)
    if member == probe and not ask.whole then set('probe_until', 0) end
end
local tokens = math.min(ask.burst, get('tokens') + math.max(0, now - get('counted_at')) / spacing)
for _, number in ipairs(ask.unused) do
    local member = place(number)
    if redis.call('ZREM', places, member) == 1 then tokens = math.min(ask.burst, tokens + 1) end
    if member == probe then set('probe_until', 0) end
end
if ask.pause ~= cjson.null then
    set('closed', 1)
    set('closed_until', whole(math.max(get('closed_until'), now + micro(ask.pause))))
    set('probe_until', 0)
    redis.call('HINCRBY', state, 'closing', 1)
elseif ask.reopened == get('closing') then
    redis.call('HDEL', state, 'closed', 'closed_until', 'probe', 'probe_until')
end
redis.call('ZREMRANGEBYSCORE', places, '-inf', whole(now))

-- What holds all: a 429, until one request at a time finds it over.
local wanted, granted, wait, pause = ask.wanted, 0, 0, cjson.null
local held = 0
local closed = get('closed') == 1
if closed then
    pause = math.max(0, get('closed_until') - now)
    held = math.max(pause, get('probe_until') - now)
    wanted = math.min(wanted, 1)
end
held = math.max(held, get('grace_until') - now)
if era ~= ask.era and not ask.whole then
    wait = 0 -- this process is to tell all first
elseif wanted == 0 or held > 0 then
    -- A pause is known to last; what else holds, such as a probe that is on its way, may be over at any moment.
    wait = math.max(closed and pause or 0, math.min(held, micro(ask.ask_again)))
    if ask.wanted == 0 then
        redis.call('ZREM', queue, ask.process)
        redis.call('ZREM', heard, ask.process)
    end
else
    -- Turns go round. Who has not been heard of for a while has left, or is dead.
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', heard, '-inf', whole(now - micro(ask.grace)))) do
        redis.call('ZREM', queue, gone)
        redis.call('ZREM', heard, gone)
    end
    if not redis.call('ZSCORE', queue, ask.process) then
        redis.call('ZADD', queue, redis.call('HINCRBY', state, 'turns', 1), ask.process)
    end
    redis.call('ZADD', heard, whole(now), ask.process)
    local before = redis.call('ZRANK', queue, ask.process)
    local busy = redis.call('ZCARD', heard)
    local free = ask.requests - redis.call('ZCARD', places)
    -- In a hurry a process takes what is left; where others have anything to send, it would be theirs.
    local hurry = ask.hurry and busy == 1
    local left = hurry and free or math.min(free, math.floor(tokens + 0.000001))
    if left > before then
        granted = math.min(wanted, math.max(1, math.floor((left - before) / busy)))
        for number = ask.first, ask.first + granted - 1 do
            redis.call('ZADD', places, whole(now + keep), place(number))
        end
        if not hurry then tokens = tokens - granted end
        if closed then
            set('probe', place(ask.first))
            set('probe_until', whole(now + micro(ask.lease)))
        end
        redis.call('ZREM', queue, ask.process)
    else
        local by_tempo = hurry and 0 or (before + 1 - tokens) * spacing
        local by_places = 0
        if before >= free then
            local next = redis.call('ZRANGE', places, before - free, before - free, 'WITHSCORES')
            by_places = next[2] and tonumber(next[2]) - now or micro(ask.ask_again)
        end
        wait = math.min(math.max(by_tempo, by_places), micro(ask.ask_again))
    end
end

set('tokens', string.format('%.17g', tokens))
set('counted_at', whole(now))
local kept = math.ceil((2 * keep + math.max(0, get('closed_until') - now)) / 1000)
for _, key in ipairs(KEYS) do
    if redis.call('PTTL', key) < kept then redis.call('PEXPIRE', key, whole(kept)) end
end
return cjson.encode({
    granted = granted,
    wait = wait / 1000000,
    pause = pause ~= cjson.null and pause / 1000000 or cjson.null,
    era = era,
    closing = get('closing'),
})
