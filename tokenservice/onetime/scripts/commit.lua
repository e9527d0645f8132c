-- KEYS: history, cut, record, live, held, idem   ARGV: known, nonce, epoch, caller, idempotency key,
-- request, window ms, receipt ms, key
local nonce, epoch, caller, name, request, window, receipt, key = unpack(ARGV, 2)
local record = read(record_key)
if not record.verifier then return reply(missing(epoch)) end

local known = recall(record, name, request)
if known == 'idempotency_mismatch' then return reply({ known }) end
local state = state_of(record)
if state == 'consumed' and record.nonce == nonce then
  if known then return reply(consumed(record, record.consumed, 1)) end
  return reply({ 'token_already_used', record.consumed })
end
if state == 'lost' or state == 'revoked' then return reply({ 'token_' .. state }) end
if state ~= 'reserved' or record.nonce ~= nonce then return reply({ 'lease_ended' }) end
local done = consume(record, nonce, caller, name, request, window, receipt, key)
redis.pcall('ZREM', KEYS[5], id)
return reply(done)
