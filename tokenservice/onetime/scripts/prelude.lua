-- Put before every verb. One clock and one identity: those of the server process that runs
-- the script, read inside it, so that no connection or failover can pair one server's
-- answer with another's.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- New at each process start, and different on a master and its replicas. A record that was
-- issued under another run_id may have been consumed in a history that this process never
-- saw (a lost snapshot, an unreplicated write), so only its issuer may honour it.
local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- Redis refuses a script's write when memory is full, unless an earlier write of the script
-- was allowed. PEXPIRE is always allowed, and this one changes nothing: it lets a token be
-- consumed on a full server.
local function open_for_writing(key)
  redis.call('PEXPIRE', key, redis.call('PTTL', key))
end
