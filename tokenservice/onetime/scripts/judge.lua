-- Put before the verbs that decide about one record.
-- KEYS: history, record, live (the owner's outstanding tokens), for reserve also index, and last
-- idem (what the idempotency key stands for) where the caller sent a key
local record_key, live, idem = KEYS[2], KEYS[3], KEYS[#KEYS]
local id = string.sub(record_key, -18)

-- No record: it was issued in another term than this one, or never.
local function missing(epoch)
  return { string.sub(redis.sha1hex(term_now), 1, #epoch) == epoch and 'unknown' or 'lost' }
end

-- Without an audience every caller with the secret is admitted.
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

-- Why the presenter of this token may know nothing of it; nil where it may.
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
    redis.pcall('HINCRBY', record_key, 'replays', 1)
    return { 'consumed_before', record.consumed }
  end
  if state ~= 'active' and state ~= 'reserved' then return { state } end
  local field = mismatch(record, purpose, subject, bind)
  if field then return { 'mismatch', field } end
  if state == 'reserved' then return { 'reserved', record.lease - now } end
end

-- Under an idempotency key (its name is '' where the caller sent none): whether this very request
-- was answered before, and with what. The record knows the last one that changed it, for as long
-- as it lives; the key's own memory knows what the key stands for, for a while.
local function mark(name, request) return string.sub(name, 1, 32) .. string.sub(request, 1, 32) end

local function recall(record, name, request)
  if name == '' then return nil end
  local known = record.mark
  if known and string.sub(known, 1, 64) == mark(name, request) then
    return 'repeated', string.sub(known, 65)
  end
  known = redis.call('GET', idem)
  if not known then return nil end
  if string.sub(known, 1, #request) ~= request then return 'idempotency_mismatch' end
  return 'repeated', string.sub(known, #request + 1)
end

-- Every change of state begins so, and ends with the one HSET that decides. A user of Redis
-- without the right to a command is refused before that: nothing is decided by half.
-- HDEL changes nothing here, but opens a full server: Redis refuses a script's write when memory
-- is full, unless an earlier write of the script was one that it always allows.
local function begin_change(name, request, answer, window)
  redis.call('HDEL', record_key, '')
  count = redis.call('HINCRBY', KEYS[1], 'count', 1)
  if name ~= '' then redis.call('SET', idem, request .. answer, 'PX', window) end
end

-- Take the token out of the owner's live ones; false where it is not among them, as a record that
-- was put back alone. (One without `seq` was issued by the release before, which kept its live
-- tokens elsewhere.)
local function withdraw(record)
  return redis.call('ZREM', live, id) == 1 or not record.seq
end

-- Once it is decided, the record stays as long as a receipt, or an account with tokens of a day
-- would fill Redis with used ones. That costs a command, which most have no need of.
local function keep(record, receipt)
  if record.expires - now > 10000 then redis.pcall('PEXPIRE', record_key, receipt) end
end

local function consumed(record, at, replayed)
  return { 'consumed', replayed, record.owner, record.subject, record.purpose or '',
    record.data or '', record.created, at }
end

-- `nonce`: of the reservation that is committed. One that ran out before has no part in this: its
-- holder is told that it ended.
local function consume(record, nonce, caller, name, request, window, receipt)
  begin_change(name, request, '', window)
  if not withdraw(record) then return { 'lost' } end
  if name == '' and not record.nonce then
    redis.call('HSET', record_key, 'state', 'consumed', 'consumed', now, 'consumer', caller)
  else
    redis.call('HSET', record_key, 'state', 'consumed', 'consumed', now, 'consumer', caller,
      'nonce', nonce, 'mark', mark(name, request))
  end
  keep(record, receipt)
  return consumed(record, now, 0)
end
