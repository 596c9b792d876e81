-- Decide about a batch of requests in order, atomically.
--
-- KEYS: the epoch, the global window. ARGV: this server's run id, the limits (account, global), the microseconds of a
-- lease; then for each command its kind, request id, API key id, account id and the key's limit. A request that takes no
-- concurrency has an empty account id.
-- Returns three integers for each command: the limit that rejects it (0: none), the requests that the key has used, and
-- the microseconds until there is room. -1 means that this server has lost its data and made no decision.
--
-- Windows are sorted sets of request ids with the microsecond of their admission, which counts for 60 seconds,
-- exclusive. Leases are sorted sets of request ids with the microsecond of their expiry.

local MINUTE = 60000000
local epoch, everything = KEYS[1], KEYS[2]
local is_known = redis.call('GET', epoch) == ARGV[1]
local account_limit, global_limit = tonumber(ARGV[2]), tonumber(ARGV[3])
local lease = tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function text(number) return string.format('%.0f', number) end

local horizon, present, lease_end = text(now - MINUTE), text(now), text(now + lease)
local counts = '(' .. horizon
local used_globally = redis.call('ZCOUNT', everything, counts, '+inf')

local function until_room(window)
    local oldest = redis.call('ZRANGEBYSCORE', window, counts, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    return oldest and math.max(0, oldest + MINUTE - now) or 0
end

local function count_globally(request)
    used_globally = used_globally + redis.call('ZADD', everything, present, request)
    redis.call('ZREMRANGEBYSCORE', everything, '-inf', horizon)
    redis.call('PEXPIRE', everything, 61000)
end

local answer, n = {}, 0
local function say(rejected_by, used, microseconds)
    answer[n + 1], answer[n + 2], answer[n + 3] = rejected_by, used, microseconds
    n = n + 3
end

local function admit(request, window, leases, is_concurrent, key_limit)
    local used = redis.call('ZCOUNT', window, counts, '+inf')
    if used >= key_limit then return say(1, used, until_room(window)) end
    if is_concurrent and redis.call('ZCOUNT', leases, '(' .. present, '+inf') >= account_limit then
        return say(2, used, 1000000)
    end
    if used_globally >= global_limit then return say(3, used, until_room(everything)) end
    -- The first write is one that a server without free memory rejects.
    redis.call('ZADD', window, present, request)
    redis.call('ZREMRANGEBYSCORE', window, '-inf', horizon)
    redis.call('PEXPIRE', window, 61000)
    if is_concurrent then
        redis.call('ZADD', leases, lease_end, request)
        redis.call('ZREMRANGEBYSCORE', leases, '-inf', present)
        redis.call('PEXPIRE', leases, lease / 500)
    end
    count_globally(request)
    return say(0, used + 1, MINUTE)
end

local function state(window)
    local used = redis.call('ZCOUNT', window, counts, '+inf')
    local newest = used > 0 and redis.call('ZREVRANGE', window, 0, 0, 'WITHSCORES')[2]
    return say(0, used, newest and math.max(0, newest + MINUTE - now) or 0)
end

for i = 5, #ARGV, 5 do
    local what, request = ARGV[i], ARGV[i + 1]
    local window, leases = '{tok0n}:key:' .. ARGV[i + 2], '{tok0n}:leases:' .. ARGV[i + 3]
    if what == 'end' then
        redis.call('ZREM', leases, request)
        say(0, 0, 0)
    elseif what == 'unsent' then
        redis.call('ZREM', leases, request)
        used_globally = used_globally - redis.call('ZREM', everything, request)
        say(0, 0, 0)
    elseif what == 'undo' then
        redis.call('ZREM', leases, request)
        redis.call('ZREM', window, request)
        used_globally = used_globally - redis.call('ZREM', everything, request)
        say(0, 0, 0)
    elseif what == 'renew' then
        redis.call('ZADD', leases, lease_end, request)
        redis.call('PEXPIRE', leases, lease / 500)
        say(0, 0, 0)
    elseif not is_known then
        say(-1, 0, 0)
    elseif what == 'admit' then
        admit(request, window, leases, ARGV[i + 3] ~= '', tonumber(ARGV[i + 4]))
    elseif what == 'state' then
        state(window)
    elseif used_globally >= global_limit then
        say(3, 0, until_room(everything))
    else
        count_globally(request)
        say(0, 0, MINUTE)
    end
end
return answer
