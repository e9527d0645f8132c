-- KEYS: history, cut, record, live, index, held, idem   ARGV: known, verifier, epoch, caller, correo,
-- purpose, subject, bind, issuers, room, idempotency key, request, window ms, receipt ms, nonce,
-- lease ms
local verifier, epoch, caller, correo, purpose, subject, bind, issuers, room, name, request,
  window, receipt, nonce, lease = unpack(ARGV, 2)
local record = read(record_key)
local refused = turned_away(record, verifier, epoch, caller, correo)
if refused then return reply(refused) end

local known, kept = recall(record, name, request)
if known == 'idempotency_mismatch' then return reply({ known }) end
local state = state_of(record)
if known then
  -- A reply is replayed only while it is true.
  local holds = state == 'reserved' and record.nonce == kept
  if state == 'revoked' then return reply({ 'token_revoked' }) end
  if not holds then return reply({ 'lease_ended' }) end
else
  refused = unusable(record, state, purpose, subject, bind, issuers, room)
  if refused then return reply(refused) end
  if record.seq and not redis.call('ZSCORE', live, id) then return reply({ 'token_lost' }) end

  record.nonce, record.lease = nonce, now + lease
  -- The record must outlive the lease, so that a commit can be repeated as long as a validate; and
  -- the sets that name it must outlive it, or it would be forgotten, or taken for lost.
  local last = math.max(tonumber(record.expires), record.lease)
  for _, key in ipairs({ record_key, live, KEYS[5] }) do
    if redis.call('PTTL', key) < last + receipt - now then
      redis.call('PEXPIREAT', key, last + receipt)
    end
  end
  -- Before the key is remembered: a Redis user without the right to ZADD then reserves nothing.
  redis.call('HDEL', record_key, '')
  redis.call('ZADD', live, 'XX', last, id)
  begin_change(name, request, nonce, window)
  redis.call('HSET', record_key, 'state', 'reserved', 'nonce', nonce, 'lease', record.lease,
    'mark', name ~= '' and mark(name, request) .. nonce or '')
  -- For the census: the tokens of one term and floor, by the end of their lease, as a live set.
  local held, term_mark = KEYS[6], term_now .. ' ' .. (floor or '')
  if not redis.call('ZSCORE', held, term_mark) then
    redis.call('DEL', held)
    redis.call('ZADD', held, '+inf', term_mark)
  end
  redis.call('ZADD', held, record.lease, id)
  redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
  redis.call('PEXPIRE', held, 86400000)
end
return reply({ 'reserved', record.nonce, record.lease, record.owner, record.subject,
  record.purpose or '', record.data or '', record.created, record.issued_with or '' })
