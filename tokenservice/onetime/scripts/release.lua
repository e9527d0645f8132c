-- KEYS: record   ARGV: nonce, epoch
local nonce, epoch = unpack(ARGV)
local record = read(KEYS[1])
if not record.verifier then return missing(epoch) end
local state = state_of(record)
if state == 'consumed' and record.nonce == nonce then
  return { 'consumed_before', record.consumed }
end
if state == 'lost' then return { state } end
if state ~= 'reserved' or record.nonce ~= nonce then return { 'lease_ended' } end

open_for_writing()
redis.call('HSET', KEYS[1], 'state', 'active')
redis.call('HDEL', KEYS[1], 'nonce', 'lease')
return { 'released' }
