-- Appends events to a run's log and publishes them, whole or not at all.
--
-- KEYS[1]  the stream
-- ARGV[1]  channel of the run      ARGV[2]  channel of all runs' statuses
-- ARGV[3]  seconds to keep it      ARGV[4]  greatest number of events to keep
-- ARGV[5]  seq of the first event: the others follow it one by one
-- then for each stretch of events of one attempt: the attempt, a "1" (it tells a status) or "0" for each event as one
-- string, and the bytes of each
--
-- Returns {"appended" | "missing" | "fenced", attempt, seq}: the log's end, afterwards.
--
-- The stream's own last id is the fence: Redis refuses an id that isn't higher, and it stays when entries go.

local stream, channel, all_channel = KEYS[1], ARGV[1], ARGV[2]

-- Fast path: the newest entry is mostly the one before, and all events are of one attempt. To ask for that entry costs
-- Redis less than XINFO, and functions would be made anew for each call; see `python -m bench --only latency`. A fence
-- above the newest entry isn't seen this way: then Redis refuses the first event, and it is done as below.
local attempt, statuses, first = ARGV[6], ARGV[7], tonumber(ARGV[5])
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local is_next = newest and newest[1] == attempt .. '-' .. string.format('%.0f', first - 1)
if is_next and #ARGV == 7 + #statuses then
  local seq = ARGV[5]
  for k = 1, #statuses do
    if k > 1 then
      seq = string.format('%.0f', first + k - 1)
    end
    local event = ARGV[7 + k]
    local added = redis.pcall('XADD', stream, 'MAXLEN', '~', ARGV[4], attempt .. '-' .. seq, 'e', event)
    if type(added) == 'table' then
      is_next = false
      break
    end
    redis.call('PUBLISH', channel, event)
    if string.byte(statuses, k) == 49 then
      redis.call('PUBLISH', all_channel, event)
    end
  end
  if is_next then
    redis.call('EXPIRE', stream, ARGV[3])
    return { 'appended', attempt, seq }
  end
end

local last_attempt, last_seq = 0, 0
local info = redis.pcall('XINFO', 'STREAM', stream)
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local attempt, seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
      last_attempt, last_seq = tonumber(attempt), tonumber(seq)
      break
    end
  end
end

local function answer(word)
  return { word, string.format('%.0f', last_attempt), string.format('%.0f', last_seq) }
end

local seq, i = first, 6
while ARGV[i] do
  local attempt, statuses = tonumber(ARGV[i]), ARGV[i + 1]
  if attempt < last_attempt then
    return answer('fenced')
  end
  for k = 1, #statuses do
    -- Of the same attempt and not higher: it is there already, from an earlier try.
    if attempt > last_attempt or seq > last_seq then
      if seq > last_seq + 1 then
        return answer('missing')
      end
      local event = ARGV[i + 1 + k]
      local id = ARGV[i] .. '-' .. string.format('%.0f', seq)
      redis.call('XADD', stream, 'MAXLEN', '~', ARGV[4], id, 'e', event)
      redis.call('PUBLISH', channel, event)
      if string.byte(statuses, k) == 49 then
        redis.call('PUBLISH', all_channel, event)
      end
      last_attempt, last_seq = attempt, seq
    end
    seq = seq + 1
  end
  i = i + 2 + #statuses
end

redis.call('EXPIRE', stream, ARGV[3])
return answer('appended')
