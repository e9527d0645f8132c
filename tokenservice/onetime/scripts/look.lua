-- KEYS: record   ARGV: id   Reads and changes nothing.
local record = read(KEYS[1])
if not record.verifier then return { 'unknown' } end
return { 'found', record.verifier, record.audience or '', record.bind and 1 or 0, now,
  unpack(receipt(ARGV[1], record)) }
