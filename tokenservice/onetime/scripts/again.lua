-- KEYS: history, live, then records   ARGV: known
-- The tokens that an earlier create issued, as they are now: the times, the audience that they
-- share, and the state and the verifier of each.
local created, expires, audience, states, verifiers = nil, nil, nil, {}, {}
for i = 3, #KEYS do
  local record = read(KEYS[i])
  if not record.verifier then return reply({ 'token_unknown' }) end
  created, expires, audience = record.created, record.expires, record.audience or ''
  states[i - 2] = shown_state(record, KEYS[2], string.sub(KEYS[i], -18))
  verifiers[i - 2] = record.verifier
end
return reply({ 'created', created, expires, now, audience, states, verifiers })
