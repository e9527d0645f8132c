-- KEYS: history, then records   ARGV: known
-- The times and the verifiers of the tokens that an earlier create issued.
local created, expires, verifiers = nil, nil, {}
for i = 2, #KEYS do
  local record = read(KEYS[i])
  if not record.verifier then return reply({ 'token_unknown' }) end
  created, expires = record.created, record.expires
  verifiers[i - 1] = record.verifier
end
return reply({ 'created', created, expires, verifiers })
