-- Puts up a gateway's report, and notes in the index until when it counts.
-- KEYS: the report, the index. ARGV: the gateway's id, the report, its time to live in ms.
local time = redis.call('TIME') -- Redis' own clock: those of the gateways may differ
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
