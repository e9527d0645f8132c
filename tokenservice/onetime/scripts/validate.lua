-- KEYS: record   ARGV: verifier, epoch, caller, correo, purpose, subject, bind,
-- idempotency key, request, window ms
local verifier, epoch, caller, correo, purpose, subject, bind, key, request, window = unpack(ARGV)
local record = read(KEYS[1])
if not record.verifier then return missing(epoch) end
-- Both are SHA-256, and Lua compares interned strings by address: no timing to learn from.
if record.verifier ~= verifier then return { 'unknown' } end
if not admits(record, caller, correo) then return { 'not_for_caller' } end

local known = recall(key, request)
if known == 'repeated' then return consumed(record, 1) end
if known then return { known } end

local state = state_of(record)
if state == 'consumed' then
  redis.pcall('HINCRBY', KEYS[1], 'replays', 1)
  return { 'consumed_before', record.consumed }
end
if state ~= 'active' and state ~= 'reserved' then return { state } end
local field = mismatch(record, purpose, subject, bind)
if field then return { 'mismatch', field } end
if state == 'reserved' then return { 'reserved', record.lease - now } end

consume(record, caller)
-- A reservation that ran out before has no part in this: its holder is told that it ended.
if record.nonce then redis.call('HDEL', KEYS[1], 'nonce', 'lease') end
remember(key, request, '', window)
return consumed(record, 0)
