-- Appends events to a run's log and publishes them, whole or not at all.
--
-- KEYS[1]  the stream
-- ARGV[1]  channel of the run      ARGV[2]  channel of all runs' statuses
-- ARGV[3]  seconds to keep it      ARGV[4]  greatest number of events to keep
-- ARGV[5]  "1" if that time begins anew, "0" if it began a moment ago; for a log that hasn't one it begins anyway
-- ARGV[6]  seq of the first event: the others follow it one by one
-- then for each stretch of events of one attempt: the attempt, a "1" (it tells a status) or "0" for each event as one
-- string, and the bytes of each
--
-- Returns "appended" if the log ends with the last of the events now, else {"appended" | "missing" | "fenced", attempt,
-- seq}: the log's end, afterwards.
--
-- The stream's own last id is the fence: Redis refuses an id that isn't higher, and it stays when entries go.

local stream, channel, all_channel = KEYS[1], ARGV[1], ARGV[2]

-- Fast path: the log ends with the event before the first, as mostly, and all are of one attempt. If that entry is there
-- and Redis takes the first event, which isn't before any other, then it is the next. Of attempt 1 its place in the log
-- says it too, for less: no event of it has a seq that was there before, so a log of as many entries as there should be
-- has them all. A command costs Redis two to six microseconds here, an answer of several words three; functions would be
-- made anew for each call. See `python -m bench --only latency`. A log of fewer events than are kept has none to let go.
local attempt, statuses, first = ARGV[7], ARGV[8], tonumber(ARGV[6])
local is_long = first + #statuses > tonumber(ARGV[4])
if #ARGV == 8 + #statuses then
  local follows = attempt == '1' and first > 1 and not is_long and redis.call('XLEN', stream) == first - 1
  if not follows then
    local before = attempt .. '-' .. (first - 1)
    follows = redis.call('XRANGE', stream, before, before)[1]
  end
  local event = ARGV[9]
  if follows and type(redis.pcall('XADD', stream, attempt .. '-' .. ARGV[6], 'e', event)) == 'string' then
    redis.call('PUBLISH', channel, event)
    if string.byte(statuses) == 49 then
      redis.call('PUBLISH', all_channel, event)
    end
    for k = 2, #statuses do
      event = ARGV[8 + k]
      redis.call('XADD', stream, attempt .. '-*', 'e', event) -- whose number follows
      redis.call('PUBLISH', channel, event)
      if string.byte(statuses, k) == 49 then
        redis.call('PUBLISH', all_channel, event)
      end
    end
    if is_long then
      redis.call('XTRIM', stream, 'MAXLEN', '~', ARGV[4])
    end
    if ARGV[5] == '1' then
      redis.call('EXPIRE', stream, ARGV[3])
    end
    return 'appended'
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

local seq, i = first, 7
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
