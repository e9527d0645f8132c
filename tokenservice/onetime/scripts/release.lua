-- KEYS: history, cut, record, live, held   ARGV: known, nonce, epoch
local nonce, epoch = unpack(ARGV, 2)
local record = read(record_key)
if not record.verifier then return reply(missing(epoch)) end
local state = state_of(record)
if state == 'consumed' and record.nonce == nonce then
  return reply({ 'token_already_used', record.consumed })
end
if state == 'lost' or state == 'revoked' then return reply({ 'token_' .. state }) end
if state ~= 'reserved' or record.nonce ~= nonce then return reply({ 'lease_ended' }) end

begin_change('', '', '', 0)
redis.call('ZADD', live, 'XX', record.expires, id)
redis.call('HSET', record_key, 'state', 'active', 'nonce', '', 'mark', '')
redis.pcall('ZREM', KEYS[5], id)
return reply({ 'released', record.owner, record.purpose or '' })
