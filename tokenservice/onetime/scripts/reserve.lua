-- KEYS: record   ARGV: verifier, epoch, caller, correo, purpose, subject, bind,
-- idempotency key, request, window ms, nonce, lease ms, receipt ms
local verifier, epoch, caller, correo, purpose, subject, bind, key, request, window = unpack(ARGV)
local nonce, lease, receipt = ARGV[11], ARGV[12], ARGV[13]
local record = read(KEYS[1])
local refused = turned_away(record, verifier, epoch, caller, correo)
if refused then return refused end

local known, answer = recall(key, request)
if known == 'idempotency_mismatch' then return { known } end

local state = state_of(record)
-- The answer is given again only while it is true.
if known and not (state == 'reserved' and record.nonce == answer) then return { 'lease_ended' } end
if not known then
  refused = unusable(record, state, purpose, subject, bind)
  if refused then return refused end

  record.nonce, record.lease = nonce, now + lease
  -- The record must outlive the lease, for a commit to be repeated as long as a validate.
  local end_of_use = math.max(tonumber(record.expires), record.lease)
  redis.call('PEXPIREAT', KEYS[1], end_of_use + receipt)
  -- The index must outlive the record, or the list would forget what the receipt still tells.
  local index = sibling('index', record.owner)
  if redis.call('PTTL', index) < end_of_use + receipt - now then
    redis.call('PEXPIREAT', index, end_of_use + receipt)
  end
  redis.call('HSET', KEYS[1], 'state', 'reserved', 'nonce', nonce, 'lease', record.lease)
  remember(key, request, nonce, window)
end
return { 'reserved_now', record.nonce, record.lease, record.owner, record.subject,
  record.purpose or '', record.data or '', record.created }
