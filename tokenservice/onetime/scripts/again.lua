-- KEYS: history, then records   ARGV: known
-- What an earlier create issued, to tell it again: its times, and each verifier.
local created, expires, verifiers = nil, nil, {}
for i = 2, #KEYS do
  local record = read(KEYS[i])
  if not record.verifier then return reply({ 'unknown' }) end
  created, expires = record.created, record.expires
  verifiers[i - 1] = record.verifier
end
return reply({ 'created', created, expires, verifiers })
