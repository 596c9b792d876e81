-- Add requests from the database to the windows and leases, if the caller holds the refill lock.
--
-- KEYS: the lock, the epoch, the global window. ARGV: this server's run id, the caller's id, the milliseconds by which to
-- extend the lock, whether this is the last part, the microseconds of a lease; then for each request its id, API key id
-- (may be empty), account id (empty unless it is in progress), whether it was dispatched, and the microseconds since its
-- admission. Returns 1, or 0 if another process has the lock.

if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local lease = tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

for i = 6, #ARGV, 5 do
    local request, key, account = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local admitted = string.format('%.0f', now - ARGV[i + 4])
    if key ~= '' then
        redis.call('ZADD', '{tok0n}:key:' .. key, 'NX', admitted, request)
        redis.call('PEXPIRE', '{tok0n}:key:' .. key, 61000)
    end
    if ARGV[i + 3] == '1' then
        redis.call('ZADD', KEYS[3], 'NX', admitted, request)
        redis.call('PEXPIRE', KEYS[3], 61000)
    end
    if account ~= '' then
        redis.call('ZADD', '{tok0n}:leases:' .. account, string.format('%.0f', now + lease), request)
        redis.call('PEXPIRE', '{tok0n}:leases:' .. account, lease / 500)
    end
end

if ARGV[4] == '1' then
    redis.call('SET', KEYS[2], ARGV[1])
    redis.call('DEL', KEYS[1])
end
return 1
