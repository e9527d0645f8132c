-- KEYS: record   ARGV: verifier, epoch, caller, correo, purpose, subject, bind,
-- idempotency key, request, window ms
local verifier, epoch, caller, correo, purpose, subject, bind, key, request, window = unpack(ARGV)
local record = read(KEYS[1])
local refused = turned_away(record, verifier, epoch, caller, correo)
if refused then return refused end

local known = recall(key, request)
if known == 'repeated' then return consumed(record, 1) end
if known then return { known } end

refused = unusable(record, state_of(record), purpose, subject, bind)
if refused then return refused end

consume(record, caller)
-- A reservation that ran out before has no part in this: its holder is told that it ended.
if record.nonce then redis.call('HDEL', KEYS[1], 'nonce', 'lease') end
remember(key, request, '', window)
return consumed(record, 0)
