-- Lets an attempt go on in a run's log after `floor`: from now on the stream refuses ids of older attempts.
--
-- KEYS[1]  the stream
-- ARGV[1]  attempt      ARGV[2]  floor: the seq after which the attempt goes on      ARGV[3]  seconds to keep it
--
-- Returns {attempt, seq} of the last event kept, {"0", "0"} if there is none.

local stream, attempt = KEYS[1], tonumber(ARGV[1])
local id = ARGV[1] .. '-' .. ARGV[2]
local kept_attempt, kept_seq = '0', '0'
local fenced_attempt = 0

local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
if newest[1] then
  kept_attempt, kept_seq = string.match(newest[1][1], '^(%d+)-(%d+)$')
end
local exists = redis.call('EXISTS', stream) == 1
if exists then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      fenced_attempt = tonumber(string.match(info[i + 1], '^(%d+)-'))
    end
  end
end

if not exists then
  -- A stream can't be made empty with a last id of one's choice, but it keeps the id of an entry that has gone.
  redis.call('XADD', stream, id, 'e', '')
  redis.call('XDEL', stream, id)
elseif attempt >= fenced_attempt then
  -- Redis itself would let an older attempt lower the fence of a later one that hasn't written yet. It refuses an id
  -- below the newest entry: then this attempt has written beyond the floor, and there is nothing to do.
  local answer = redis.pcall('XSETID', stream, id)
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'smaller than') then
    return answer
  end
end
redis.call('EXPIRE', stream, ARGV[3])
return { kept_attempt, kept_seq }
