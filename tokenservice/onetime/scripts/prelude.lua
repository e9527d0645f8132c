-- Put before every verb.
-- KEYS[1]: the shard's history   ARGV[1]: the counts that the caller knows of it, by term
-- A script touches the keys in KEYS and no other: while a slot of a cluster is open for a move,
-- Redis then answers TRYAGAIN before anything is written.

-- One clock and one identity, those of the server process that runs the script, read inside
-- it: no connection and no failover can pair one server's answer with another's.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

-- The term: one unbroken mastership of one process. run_id is new at each process start, and
-- master_replid at each promotion; a process that was demoted, took another's data and was
-- promoted again has the first still and the second anew. (It is also new when a first replica
-- joins, and when the last one has been gone for long: outstanding tokens are lost then, which
-- is the safe direction.) 96 bits of each, to keep records small.
local server, replication = redis.call('INFO', 'server'), redis.call('INFO', 'replication')
local function begin(info, name)
  local _, last = string.find(info, name, 1, true)
  return string.sub(info, last + 1, last + 24)
end
local term_now = begin(server, '\nrun_id:') .. begin(replication, '\nmaster_replid:')

-- In a cluster also the configuration epoch: the process keeps both of the others while a slot
-- leaves it and comes back, but an import by the book takes an epoch above all others. A server
-- that does not say that it stands alone is asked, and one that cannot answer honours nothing.
local alone = string.find(server, '\nredis_mode:standalone\r', 1, true)
  or string.find(server, '\nserver_mode:standalone\r', 1, true)
if not alone then
  local epoch = string.match(redis.call('CLUSTER', 'INFO'), 'cluster_my_epoch:(%d+)')
  term_now = term_now .. ':' .. epoch .. ':'
end

-- A replica is no judge. What its master honours would be "lost" to it; so it says what Redis
-- says there of any write, and nothing is decided.
if not string.find(replication, '\nrole:master', 1, true) then
  return redis.error_reply('READONLY A replica judges no token.')
end

-- The history of the shard: how many state changes it has seen. A caller that has seen more of
-- them in this very term knows that the data went back in time (a backup, FLUSHALL, SWAPDB, a
-- migration that was undone). All that was issued before is lost then: the count goes above any
-- that was seen, and the floor with it.
local history = redis.call('HMGET', KEYS[1], 'count', 'floor')
local count, floor = history[1] or '0', history[2]
-- Nearly always the caller knows just this, which is quicker compared than read.
if ARGV[1] ~= term_now .. ' ' .. count .. ' ' then
  local _, last = string.find(ARGV[1], term_now, 1, true)
  local known = last and tonumber(string.match(ARGV[1], '^ (%d+)', last + 1)) or 0
  if known > tonumber(count) then
    count = known + 1
    floor = count
    redis.call('HSET', KEYS[1], 'count', count, 'floor', floor)
  end
end

local function read(key)
  local flat, record = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

-- What a record is now. Only the term that issued it may honour it, above its floor: elsewhere it
-- may have been consumed in a history that this process never saw (a lost snapshot, an
-- unreplicated write). A record that says consumed or revoked is believed whatever wrote it.
local function state_of(record)
  if record.state == 'consumed' or record.state == 'revoked' then return record.state end
  local held = record.state == 'reserved' and now < tonumber(record.lease)
  if not held and now >= tonumber(record.expires) then return 'expired' end
  if record.term ~= term_now then return 'lost' end
  if floor and (tonumber(record.seq) or 0) < tonumber(floor) then return 'lost' end
  return held and 'reserved' or 'active'
end

-- What the caller learns of the history it sends along next time.
local function reply(facts)
  facts[#facts + 1] = term_now
  facts[#facts + 1] = count
  return facts
end
