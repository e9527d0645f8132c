-- Stands before the verbs that decide about one record, behind terms.lua.
-- KEYS: history, cut, record, live (the owner's outstanding tokens), for reserve also index, and
-- last idem (the memory of the idempotency key) where the caller sends a key
-- A refusal replies with its code and its facts; onetime/errors.py has a class for each code.
local record_key, live, idem = KEYS[3], KEYS[4], KEYS[#KEYS]
local id = string.sub(record_key, -18)

-- No record: another term issued it, or nobody did.
local function missing(epoch)
  local issued_here = string.sub(redis.sha1hex(term_now), 1, #epoch) == epoch
  return { issued_here and 'token_unknown' or 'token_lost' }
end

-- The refusal of a presenter that may learn nothing of the token, or nil.
local function turned_away(record, verifier, epoch, caller, correo)
  if not record.verifier then return missing(epoch) end
  -- Both are SHA-256, and Lua compares interned strings by address: the time tells nothing. A
  -- made-up token gets one reply, whether its id exists or not.
  if record.verifier ~= verifier then return missing(epoch) end
  if not admits(record, caller, correo) then return { 'token_not_for_caller' } end
end

-- The refusal of a token that is not active, or of terms that differ, or nil. The count of replays
-- is its only write.
local function unusable(record, state, purpose, subject, bind, issuers, room)
  if state == 'consumed' then
    redis.pcall('HINCRBY', record_key, 'replays', 1)
    return { 'token_already_used', record.consumed }
  end
  if state ~= 'active' and state ~= 'reserved' then return { 'token_' .. state } end
  local field = mismatch(record, purpose, subject, bind, issuers, room)
  if field then return { 'token_mismatch', field } end
  if state == 'reserved' then return { 'token_reserved', record.lease - now } end
end

-- Under an idempotency key (its name is '' where the caller sends none): the earlier reply to this
-- very request, if there is one. The record remembers the key of its last change as long as it
-- lives; the key's own memory holds the request for a while.
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

-- Every change of state begins here and ends with the one HSET that decides. A Redis user without
-- the right to a command is refused before it, and nothing is half decided.
-- HDEL changes nothing, but opens a full server: Redis refuses a script's write when memory is
-- full, unless an earlier write of the script is one that it always allows.
local function begin_change(name, request, kept, window)
  redis.call('HDEL', record_key, '')
  count = redis.call('HINCRBY', KEYS[1], 'count', 1)
  if name ~= '' then redis.call('SET', idem, request .. kept, 'PX', window) end
end

-- Remove the token from its owner's live set; false where it is no member, as a record that was
-- restored alone. (A record without `seq` comes from the previous release, whose live sets were
-- elsewhere.)
local function withdraw(record)
  return redis.call('ZREM', live, id) == 1 or not record.seq
end

-- A decided record stays as long as a receipt: used tokens with a life of a day would fill Redis.
-- Most records need no PEXPIRE, so most calls save it.
local function keep(record, receipt)
  if record.expires - now > 10000 then redis.pcall('PEXPIRE', record_key, receipt) end
end

local function consumed(record, at, replayed)
  return { 'consumed', replayed, record.owner, record.subject, record.purpose or '',
    record.data or '', record.created, record.issued_with or '', at, record.consumed_with or '' }
end

-- `nonce` is that of the committed reservation, or ''. An overdue reservation has no part in this:
-- its holder gets lease_ended. `key` is the caller's, or ''.
local function consume(record, nonce, caller, name, request, window, receipt, key)
  begin_change(name, request, '', window)
  if not withdraw(record) then return { 'token_lost' } end
  if key ~= '' then
    redis.call('HSET', record_key, 'consumed_with', key)
    record.consumed_with = key
  end
  if name == '' and not record.nonce then
    redis.call('HSET', record_key, 'state', 'consumed', 'consumed', now, 'consumer', caller)
  else
    redis.call('HSET', record_key, 'state', 'consumed', 'consumed', now, 'consumer', caller,
      'nonce', nonce, 'mark', mark(name, request))
  end
  keep(record, receipt)
  return consumed(record, now, 0)
end
