-- Put before every verb. KEYS[1] is the record `ott:{shard}:<id>`, or the owner's index.

-- One clock and one identity, those of the server process that runs the script, read inside
-- it: no connection and no failover can pair one server's answer with another's.
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

-- The fence: one unbroken mastership of one process. run_id is new at each process start, and
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

-- A replica is no judge. What its master honours would be "lost" to it, and that is final for a
-- caller; so it says what Redis says there of any write, and nothing is decided.
if not string.find(replication, '\nrole:master', 1, true) then
  return redis.error_reply('READONLY A replica judges no token.')
end

-- Other keys of the same shard. They share the {tag} of KEYS[1], and so its cluster slot.
local shard = string.match(KEYS[1], '^[^}]*}:')
local function sibling(kind, name) return shard .. kind .. ':' .. name end

local function read(key)
  local flat, record = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

-- What a record is now. Only the term that issued it may honour it: in another it may have been
-- consumed in a history that this process never saw (a lost snapshot, an unreplicated write).
-- A record that says consumed or revoked is believed whoever wrote it.
local function state_of(record)
  if record.state == 'consumed' or record.state == 'revoked' then return record.state end
  local held = record.state == 'reserved' and now < tonumber(record.lease)
  if not held and now >= tonumber(record.expires) then return 'expired' end
  if record.term ~= term_now then return 'lost' end
  return held and 'reserved' or 'active'
end

-- No record: it was issued in another term than this one, or never.
local function missing(epoch)
  return { string.sub(term_now, 1, #epoch) == epoch and 'unknown' or 'lost' }
end

-- Without an audience everyone is admitted who presents the secret.
local function admits(record, caller, correo)
  if not record.audience then return true end
  local listed = '\n' .. record.audience .. '\n'
  return string.find(listed, '\n' .. caller .. '\n', 1, true)
    or string.find(listed, '\n' .. correo .. '\n', 1, true)
end

-- The first thing that the presenter got wrong. A subject need not be named; a purpose and an
-- action must be, where the token has one, and must not, where it has none.
local function mismatch(record, purpose, subject, bind)
  if (record.purpose or '') ~= purpose then return 'purpose' end
  if subject ~= '' and record.subject ~= subject then return 'subject' end
  if (record.bind or '') ~= bind then return 'bind' end
end

-- Why whoever presents this token may know nothing of it; nil where they may.
local function turned_away(record, verifier, epoch, caller, correo)
  if not record.verifier then return missing(epoch) end
  -- Both are SHA-256, and Lua compares interned strings by address: no timing to learn from. And
  -- a made-up token is told the same, whether its id is somebody's or nobody's.
  if record.verifier ~= verifier then return missing(epoch) end
  if not admits(record, caller, correo) then return { 'not_for_caller' } end
end

-- Why it may not be used now, and not so; nil where it may. All that this writes is a count.
local function unusable(record, state, purpose, subject, bind)
  if state == 'consumed' then
    redis.pcall('HINCRBY', KEYS[1], 'replays', 1)
    return { 'consumed_before', record.consumed }
  end
  if state ~= 'active' and state ~= 'reserved' then return { state } end
  local field = mismatch(record, purpose, subject, bind)
  if field then return { 'mismatch', field } end
  if state == 'reserved' then return { 'reserved', record.lease - now } end
end

-- Redis refuses a script's write when memory is full, unless an earlier write of the script was
-- allowed. PEXPIRE always is, and this one changes nothing: a full server still consumes.
local function open_for_writing()
  redis.call('PEXPIRE', KEYS[1], redis.call('PTTL', KEYS[1]))
end

-- The owner's places are of one term: what another issued is lost and takes none.
local function free_place(record)
  local live = sibling('live', term_now .. ':' .. record.owner)
  redis.call('ZREM', live, string.sub(KEYS[1], #shard + 1))
end

local function consume(record, caller)
  open_for_writing()
  redis.call('HSET', KEYS[1], 'state', 'consumed', 'consumed', now, 'consumer', caller)
  free_place(record)
  record.consumed = now
end

local function consumed(record, replayed)
  return { 'consumed', replayed, record.owner, record.subject, record.purpose or '',
    record.data or '', record.created, record.consumed }
end

local function receipt(id, record)
  return { id, state_of(record), record.owner, record.subject, record.purpose or '',
    record.created, record.expires, record.consumed or '', record.consumer or '',
    record.replays or '0' }
end

-- Under an idempotency key: what the first success was asked (and answered), for a while.
-- `key` is '' where the caller sent none.
local function recall(key, request)
  local known = key ~= '' and redis.call('GET', sibling('idem', key))
  if not known then return nil end
  if string.sub(known, 1, #request) ~= request then return 'idempotency_mismatch' end
  return 'repeated', string.sub(known, #request + 1)
end

local function remember(key, request, answer, window)
  if key ~= '' then redis.call('SET', sibling('idem', key), request .. answer, 'PX', window) end
end
