-- KEYS: history, cut, live, then records   ARGV: known
-- The tokens that an earlier create issued, as they are now: the times, the audience that they
-- share, and the state and the verifier of each.
local created, expires, audience, states, verifiers = nil, nil, nil, {}, {}
for i = 4, #KEYS do
  local record = read(KEYS[i])
  if not record.verifier then return reply({ 'token_unknown' }) end
  created, expires, audience = record.created, record.expires, record.audience or ''
  states[i - 3] = shown_state(record, KEYS[3], string.sub(KEYS[i], -18))
  verifiers[i - 3] = record.verifier
end
return reply({ 'created', created, expires, now, audience, states, verifiers })
