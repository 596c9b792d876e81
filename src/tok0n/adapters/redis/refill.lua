-- Add what the database remembers to what is here, for as long as the caller holds the lock of the refill.
--
-- KEYS: lock, epoch, window of everything. ARGV: the run id of this server, the caller's id, the milliseconds that the
-- lock is to live on, whether this is the last part, the microseconds of a lease; then five for each request: request
-- id, API key id (may be empty), account id (empty unless it is in flight), whether it was dispatched, and how many
-- microseconds ago it was admitted. Gives 1, or 0 when somebody else has the lock.

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
