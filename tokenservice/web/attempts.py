"""Attempts in Redis: the scripts that count them, and that settle them or take them back.

A log is a sorted set of attempts by their time. An attempt counts as failed from its beginning,
else every concurrent guess would pass. While it is in flight its time has a half microsecond: it
may still succeed, and what is refused for such attempts alone may ask again.
"""

from __future__ import annotations

SECOND = 1_000_000
#: The age from which an attempt in flight is one that failed: its worker died.
UNSETTLED_SECONDS = 10

# Times are in microseconds. With coarser ones a window would end up to a millisecond too soon.
LOOK = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- A log's place among KEYS, its quota, the count of its window, and the time until it has room.
local function look(place, quota, window)
  local key, from = KEYS[place], now - window + 1
  local count = redis.call('ZCOUNT', key, from, '+inf')
  local leaves = redis.call('ZRANGEBYSCORE', key, from, '+inf', 'WITHSCORES',
    'LIMIT', math.max(0, count - quota), 1)[2]
  return { place, quota, count, leaves and leaves + window - now or window }
end
"""

# KEYS: logs, and perhaps the known networks of an account.
# ARGV: the attempt, its network, the life of a known network; and for each log its quota, its
# quota for a known network (0 where that is not counted), and its window.
# A full log prevents every write. ZADD comes first: a full Redis lets a script continue after a
# write.
ATTEMPT = (
    LOOK
    + f"""
local function in_flight(key, window)
  local from = now - math.min(window, {UNSETTLED_SECONDS * SECOND}) + 1
  local found, times = 0, redis.call('ZRANGEBYSCORE', key, from, '+inf', 'WITHSCORES')
  for n = 2, #times, 2 do
    if times[n] % 1 > 0 then found = found + 1 end
  end
  return found
end
"""
    + """
local logs, known = (#ARGV - 3) / 3, false
if KEYS[logs + 1] then
  for _, network in ipairs(redis.call('ZRANGEBYSCORE', KEYS[logs + 1], now - ARGV[3], '+inf')) do
    known = known or network == ARGV[2]
  end
end
local states, full, may_pass = {}, nil, true
for place = 1, logs do
  local quota = tonumber(ARGV[place * 3 + (known and 2 or 1)])
  if quota > 0 then
    local window = tonumber(ARGV[place * 3 + 3])
    local state = look(place, quota, window)
    states[#states + 1] = state
    if state[3] >= quota then
      if not (full and full[4] >= state[4]) then full = state end
      may_pass = may_pass and state[3] - in_flight(KEYS[place], window) < quota
    end
  end
end
if full then return { 0, may_pass and 1 or 0, full } end
for _, state in ipairs(states) do
  local key, window = KEYS[state[1]], tonumber(ARGV[state[1] * 3 + 3])
  redis.call('ZADD', key, now + 0.5, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
  redis.call('PEXPIRE', key, window / 1000)
  state[3] = state[3] + 1
end
return { 1, 0, unpack(states) }
"""
)

# KEYS: logs. ARGV: the attempt.
FAIL = """
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', 'INCR', -0.5, ARGV[1])
end
"""

# KEYS: logs, and the account's known networks where this one is to be remembered.
# ARGV: the attempt, its network, the life of a known network, the most of them; and for each log
# its quota and its window.
GIVE_BACK = (
    LOOK
    + """
local logs, states = (#ARGV - 4) / 2, {}
for place = 1, logs do
  redis.call('ZREM', KEYS[place], ARGV[1])
  states[place] = look(place, tonumber(ARGV[place * 2 + 3]), tonumber(ARGV[place * 2 + 4]))
end
local networks = KEYS[logs + 1]
if networks then
  redis.call('ZADD', networks, now, ARGV[2])
  for _, oldest in ipairs(redis.call('ZREVRANGE', networks, ARGV[4], -1)) do
    redis.call('ZREM', networks, oldest)
  end
  redis.call('PEXPIRE', networks, ARGV[3] / 1000)
end
return states
"""
)
