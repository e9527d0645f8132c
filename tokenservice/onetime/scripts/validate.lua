-- KEYS: history, cut, record, live, idem   ARGV: known, verifier, epoch, caller, correo,
-- purpose, subject, bind, issuers, room, idempotency key, request, window ms, receipt ms, key
local verifier, epoch, caller, correo, purpose, subject, bind, issuers, room, name, request,
  window, receipt, key = unpack(ARGV, 2)
local record = read(record_key)
local refused = turned_away(record, verifier, epoch, caller, correo)
if refused then return reply(refused) end

local known = recall(record, name, request)
if known == 'idempotency_mismatch' then return reply({ known }) end
local state = state_of(record)
if known and state == 'consumed' and record.consumer == caller then
  return reply(consumed(record, record.consumed, 1))
end

refused = unusable(record, state, purpose, subject, bind, issuers, room)
if refused then return reply(refused) end
return reply(consume(record, '', caller, name, request, window, receipt, key))
