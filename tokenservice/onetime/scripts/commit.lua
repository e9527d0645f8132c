-- KEYS: record   ARGV: nonce, epoch, caller, idempotency key, request, window ms
local nonce, epoch, caller, key, request, window = unpack(ARGV)
local record = read(KEYS[1])
if not record.verifier then return missing(epoch) end

local known = recall(key, request)
if known == 'repeated' then return consumed(record, 1) end
if known then return { known } end

local state = state_of(record)
if state == 'consumed' and record.nonce == nonce then
  return { 'consumed_before', record.consumed }
end
if state == 'lost' then return { state } end
if state ~= 'reserved' or record.nonce ~= nonce then return { 'lease_ended' } end

consume(record, caller)
remember(key, request, '', window)
return consumed(record, 0)
