-- KEYS: history, cut, record, live   ARGV: known, id   Changes nothing.
local record = read(KEYS[3])
if not record.verifier then return reply({ 'token_unknown' }) end
return reply({ 'found', record.verifier, record.audience or '', record.bind and 1 or 0, now,
  unpack(receipt(record, KEYS[4], ARGV[2])) })
