-- Stands before every verb.
--
-- A record is a hash:
--   verifier  SHA-256 of the secret          owner     account that issued it
--   term      mastership that issued it      seq       change count of the shard at issue
--   state     active, reserved, consumed or revoked
--   created, expires                         milliseconds of the server's clock
--   purpose, audience, subject, require_subject, data, bind   terms; absent where there is none
--   nonce, lease                             of the last reservation, and its end
--   consumed, consumer                       time of the consume, and its caller
--   issued_with, consumed_with               ids of the keys of both; absent for a person
--   mark      idempotency key and request of the last change, and a nonce
--   replays   how often the consumed token was presented again
--
-- KEYS[1, 2]: the shard's history, the owner's cut   ARGV[1]: the counts that the caller knows
-- A script touches the keys in KEYS and no others: while a cluster slot migrates, Redis then
-- replies TRYAGAIN before any write.

-- One clock and one identity, both of the server process that runs the script and read inside
-- it: no connection and no failover can pair one server's reply with another's.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

-- The term is one unbroken mastership of one process. run_id is new at each process start and
-- master_replid at each promotion: a process that is demoted, takes another's data and is promoted
-- again keeps the first and changes the second. (master_replid also changes when a first replica
-- attaches, and when the last one has been gone for long. Outstanding tokens are lost then, which
-- is the safe direction.) 96 bits of each keep records small. Where INFO has less, the script ends
-- in an error: a term that is not new at each start would honour a token twice.
local server, replication = redis.call('INFO', 'server'), redis.call('INFO', 'replication')
local hex = '^' .. string.rep('%x', 24)
local function begin(info, name)
  local _, last = string.find(info, name, 1, true)
  return string.match(info, hex, last + 1)
end
local term_now = begin(server, '\nrun_id:') .. begin(replication, '\nmaster_replid:')

-- In a cluster the configuration epoch is a part of it: the process keeps run_id and master_replid
-- while a slot leaves it and comes back, but an import by the book takes an epoch above all others.
-- A server that does not report standalone mode is asked for its epoch; without one it honours
-- nothing.
local alone = string.find(server, '\nredis_mode:standalone\r', 1, true)
  or string.find(server, '\nserver_mode:standalone\r', 1, true)
if not alone then
  local epoch = string.match(redis.call('CLUSTER', 'INFO'), 'cluster_my_epoch:(%d+)')
  term_now = term_now .. ':' .. epoch .. ':'
end

-- A replica decides nothing: its master's tokens would be lost to it. It replies as Redis does to
-- any write there.
if not string.find(replication, '\nrole:master', 1, true) then
  return redis.error_reply('READONLY A replica judges no token.')
end

-- The history of the shard is a count of its state changes. A caller that knows a higher count of
-- this very term proves that the data went back in time (a backup, FLUSHALL, SWAPDB, an undone
-- migration). Every earlier token is lost then: the count goes above the known one, and the floor
-- with it.
local history = redis.call('HMGET', KEYS[1], 'count', 'floor')
local count, floor = history[1] or '0', history[2]
-- Nearly always the caller knows just this, which is quicker compared than parsed.
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

-- The owner's cut: an unused record of a lower `seq` is revoked. With it the end of the time for
-- which a disabled owner creates nothing. Few owners have one, and EXISTS is cheaper than HMGET.
local has_cut
local function cut_of(owner, purpose, subject)
  if has_cut == nil then has_cut = redis.call('EXISTS', KEYS[2]) == 1 end
  if not has_cut then return 0 end
  local cut = redis.call('HMGET', KEYS[2], 'all', 'p:' .. purpose, 's:' .. subject,
    'off:' .. owner)
  return math.max(cut[1] or 0, cut[2] or 0, cut[3] or 0), cut[4]
end

-- The present state of a record. Only the term that issued it may honour it, above its floor:
-- another history may hold its consume (a lost snapshot, an unreplicated write). The states
-- consumed and revoked are final in every term.
local function state_of(record)
  if record.state == 'consumed' or record.state == 'revoked' then return record.state end
  local seq = tonumber(record.seq) or 0
  if record.term == term_now
    and seq < cut_of(record.owner, record.purpose or '', record.subject) then return 'revoked' end
  local held = record.state == 'reserved' and now < tonumber(record.lease)
  if not held and now >= tonumber(record.expires) then return 'expired' end
  if record.term ~= term_now then return 'lost' end
  if floor and seq < tonumber(floor) then return 'lost' end
  return held and 'reserved' or 'active'
end

-- Append the term and the count, which the caller sends along next time.
local function reply(facts)
  facts[#facts + 1] = term_now
  facts[#facts + 1] = count
  return facts
end
