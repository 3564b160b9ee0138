-- One exchange with a shared quota: record the report of a process, and grant or defer the requests that it wants.
--
-- Redis runs the script atomically: processes report times as seconds from now. The time of the script follows the clock
-- of Redis, but never goes back and never jumps. It is in microseconds since the epoch, which a double holds exactly.
--
-- KEYS  places: the requests that count towards the quota, scored by the time at which they expire
--       queue:  the processes that wait for a turn, in order
--       heard:  the processes that have something to send, scored by the time of their last exchange
--       state:  era, tokens, counted_at, clock_at, turns, closed, closed_until, closing, probe, probe_until, grace_until,
--               calm_until; and of a quota that is learned: limit, proven, burst, bunched_at, granted_at, refusals, quiet,
--               review_at, calm, patience
--       last:   number and reply of the last exchange with this process
-- ARGV  the fields of the ask and of the terms, as JSON
local places, queue, heard, state, last = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ask = cjson.decode(ARGV[1])

local function micro(seconds) return math.floor(seconds * 1000000 + 0.5) end
local function whole(number) return string.format('%.0f', number) end
local function get(field) return tonumber(redis.call('HGET', state, field) or '0') end
local function set(field, value) redis.call('HSET', state, field, value) end
local function member_of(number) return ask.process .. ':' .. whole(number) end

-- A connection that breaks repeats an exchange that may have been made. One that was given up may arrive after the next.
local number = tonumber(redis.call('HGET', last, 'number') or '0')
if ask.number == number then return redis.call('HGET', last, 'reply') end
if ask.number < number then return redis.error_reply('a later exchange was made') end

local keep = micro(ask.window) + micro(ask.lease)

-- An era ends when Redis loses its data. Processes that know the previous era then report all of their requests. Grant
-- nothing until they have had time to report.
local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = clock
local era = redis.call('HGET', state, 'era')
if era then
    -- The clock may have stepped since the last exchange, but this process knows how much time has passed since its own.
    local counted_at = get('counted_at')
    now = counted_at + math.max(0, clock - get('clock_at'))
    if ask.heard ~= cjson.null and ask.era == era then
        local before = tonumber(ask.heard.clock)
        now = math.max(counted_at, before + micro(ask.heard.least), math.min(now, before + micro(ask.heard.most)))
    end
else
    era = ask.new_era
    set('era', era)
    set('tokens', ask.burst)
    set('burst', ask.burst)
    set('counted_at', whole(now))
    if ask.era ~= cjson.null then set('grace_until', whole(now + micro(ask.grace))) end
end

-- A quota that nobody knows is learned together, from what a window took before its 429. Until the first convincing 429,
-- the rate grows with the most that a window has taken. `proven` is what a window is known to take.
local learning = ask.learning ~= cjson.null and ask.learning
local limit, requests, burst, spacing
local function read_limit()
    requests, burst, spacing = ask.requests, ask.burst, micro(ask.window)
    if not learning then
        spacing = spacing / requests
        return
    end
    limit = tonumber(redis.call('HGET', state, 'limit'))
    if not limit and ask.limit ~= cjson.null then
        limit = ask.limit
        set('limit', limit)
        set('proven', limit)
    end
    requests = limit and math.floor(limit) or math.huge
    burst = math.max(1, math.min(get('burst'), limit and limit * learning.burst or ask.burst))
    spacing = spacing / (limit or learning.start * (1 + (get('proven') / learning.growth) ^ 2))
end
read_limit()

-- Requests that went back to back, and were refused for that alone, do so again only after some quiet windows.
local function trusts_bursts() return get('calm') >= get('patience') end

-- Take a new limit from what the last window took before its 429; by half at most, since others may use the key as well.
-- Requests that went back to back may have been refused for that alone; then only the burst gets smaller.
local function lower(counted)
    local bunched = (burst > 1 or trusts_bursts()) and now - get('bunched_at') < micro(ask.ask_again)
    set('burst', math.max(1, math.min(burst, (limit or 0) * learning.wary_burst) / 2))
    set('calm', 0)
    if bunched and counted < (limit and learning.used * limit or learning.few) then
        set('patience', 2 * get('patience') + 1)
        return
    end
    set('quiet', 0)
    set('review_at', 0)
    if counted == 0 then return end
    local refusals = redis.call('HINCRBY', state, 'refusals', 1)
    if not limit and counted < learning.few and refusals < learning.convincing then
        set('proven', counted)
        return
    end
    local least = (limit or counted < learning.few and learning.start or 2) / 2
    limit = math.max(1, least, math.min(limit or math.huge, learning.safety * counted))
    set('limit', limit)
    set('proven', limit)
end

-- Raise the limit after a window that was used and met no 429.
local function review(counted)
    if not limit then
        set('proven', math.max(get('proven'), counted))
        return
    end
    local review_at = get('review_at')
    if now < review_at then return end
    set('review_at', whole(now + micro(ask.window)))
    if review_at == 0 or counted + 1 < learning.used * requests then return end -- one may be about to follow
    local quiet = redis.call('HINCRBY', state, 'quiet', 1) - 1
    set('proven', math.max(get('proven'), counted))
    set('limit', math.max(limit + 1, limit * (1 + math.min(1, learning.rise * 2 ^ quiet))))
    if redis.call('HINCRBY', state, 'calm', 1) > get('patience') then set('burst', 2 * burst) end
end

-- A process that was away has come back. Others may be about to, and to report what they have sent meanwhile.
if ask.whole and ask.era ~= cjson.null then set('calm_until', whole(now + micro(ask.calm))) end

-- Record the report. If a process reports that its probe has ended, another probe may be sent.
local probe = redis.call('HGET', state, 'probe')
for _, reported in ipairs(ask.places) do
    local member = member_of(reported[1])
    redis.call('ZADD', places, whole(now + micro(reported[2])), member)
    if member == probe and not ask.whole then set('probe_until', 0) end
end
local tokens = math.min(burst, get('tokens') + math.max(0, now - get('counted_at')) / spacing)
for _, number in ipairs(ask.unused) do
    local member = member_of(number)
    if redis.call('ZREM', places, member) == 1 then tokens = math.min(burst, tokens + 1) end
    if member == probe then set('probe_until', 0) end
end
redis.call('ZREMRANGEBYSCORE', places, '-inf', whole(now))
if ask.pause ~= cjson.null then
    if learning and get('closed') == 0 then
        -- Without those in flight, which the service may refuse.
        lower(redis.call('ZCOUNT', places, '-inf', whole(now + micro(ask.window + learning.late))))
    end
    set('closed', 1)
    set('closed_until', whole(math.max(get('closed_until'), now + micro(ask.pause))))
    set('probe_until', 0)
    redis.call('HINCRBY', state, 'closing', 1)
elseif ask.reopened == get('closing') then
    redis.call('HDEL', state, 'closed', 'closed_until', 'probe', 'probe_until')
end
local counted = redis.call('ZCARD', places)
if learning then
    if get('closed') == 0 then review(counted) end
    read_limit()
    tokens = math.min(burst, tokens)
end

-- A 429 pauses all processes, until a probe (one request at a time) is accepted.
local wanted, granted, wait, pause = ask.wanted, 0, 0, cjson.null
local blocked_for = 0
local closed = get('closed') == 1
if closed then
    pause = math.max(0, get('closed_until') - now)
    blocked_for = math.max(pause, get('probe_until') - now)
    wanted = math.min(wanted, 1)
end
blocked_for = math.max(blocked_for, get('grace_until') - now)
if era ~= ask.era and not ask.whole then
    wait = 0 -- this process must report all of its requests first
elseif wanted == 0 or blocked_for > 0 then
    -- The length of a pause is known. Other reasons, such as a probe in flight, may end at any moment.
    wait = math.max(closed and pause or 0, math.min(blocked_for, micro(ask.ask_again)))
    if ask.wanted == 0 then
        redis.call('ZREM', queue, ask.process)
        redis.call('ZREM', heard, ask.process)
    end
else
    -- Processes take turns. Remove those that have not asked for a while: they have died or have nothing to send.
    for _, silent in ipairs(redis.call('ZRANGEBYSCORE', heard, '-inf', whole(now - micro(ask.grace)))) do
        redis.call('ZREM', queue, silent)
        redis.call('ZREM', heard, silent)
    end
    if not redis.call('ZSCORE', queue, ask.process) then
        redis.call('ZADD', queue, redis.call('HINCRBY', state, 'turns', 1), ask.process)
    end
    redis.call('ZADD', heard, whole(now), ask.process)
    local ahead = redis.call('ZRANK', queue, ask.process)
    local active = redis.call('ZCARD', heard)
    local free = requests - counted
    -- A process in a hurry may use the whole rest of the quota, but only if no other process has something to send.
    local rest = learning and math.min(free, math.floor(get('proven')) - counted) or free
    local hurry = ask.hurry and active == 1 and now >= get('calm_until')
    if learning then hurry = hurry and rest > 0 and trusts_bursts() end
    local available = hurry and rest or math.min(free, math.floor(tokens + 0.000001))
    if available > ahead then
        granted = math.min(wanted, math.max(1, math.floor((available - ahead) / active)))
        for number = ask.first, ask.first + granted - 1 do
            redis.call('ZADD', places, whole(now + keep), member_of(number))
        end
        -- While the quota is learned, a request beyond what is proven shall not follow those in a hurry at once.
        if not hurry then
            tokens = tokens - granted
        elseif learning then
            tokens = 0
        end
        if closed then
            set('probe', member_of(ask.first))
            -- If its process dies, the others are silent for a window at most.
            set('probe_until', whole(now + micro(math.min(ask.lease, ask.window))))
        end
        if learning then
            if granted > 1 or now - get('granted_at') < spacing / 2 then set('bunched_at', whole(now)) end
            set('granted_at', whole(now))
        end
        redis.call('ZREM', queue, ask.process)
    else
        local until_token = hurry and 0 or (ahead + 1 - tokens) * spacing
        local until_free = 0
        if ahead >= free then
            local next = redis.call('ZRANGE', places, ahead - free, ahead - free, 'WITHSCORES')
            until_free = next[2] and tonumber(next[2]) - now or micro(ask.ask_again)
        end
        wait = math.min(math.max(until_token, until_free), micro(ask.ask_again))
    end
end

set('tokens', string.format('%.17g', tokens))
set('counted_at', whole(now))
set('clock_at', whole(clock))
local reply = cjson.encode({
    granted = granted,
    wait = wait / 1000000,
    pause = pause ~= cjson.null and pause / 1000000 or cjson.null,
    era = era,
    closing = get('closing'),
    active = math.max(1, redis.call('ZCARD', heard)),
    limit = limit or cjson.null,
    clock = whole(now),
})
redis.call('HSET', last, 'number', whole(ask.number), 'reply', reply)
local lifetime = math.ceil((2 * keep + math.max(0, get('closed_until') - now)) / 1000)
for _, key in ipairs(KEYS) do
    if redis.call('PTTL', key) < lifetime then redis.call('PEXPIRE', key, whole(lifetime)) end
end
return reply
