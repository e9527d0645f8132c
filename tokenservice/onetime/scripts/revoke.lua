-- KEYS: history, cut, record, live   ARGV: known, verifier ('' where the owner names it by id),
-- epoch, caller, correo, receipt ms
local verifier, epoch, caller, correo, receipt = unpack(ARGV, 2)
local record = read(record_key)
if not record.verifier then return reply(missing(epoch)) end
if verifier == '' then
  if record.owner ~= caller then return reply({ 'token_unknown' }) end
else
  if record.verifier ~= verifier then return reply(missing(epoch)) end
  if record.owner ~= caller and not admits(record, caller, correo) then
    return reply({ 'token_not_for_caller' })
  end
end

local state = state_of(record)
local revoked = { 'revoked', record.owner, record.purpose or '' }
if state == 'revoked' then return reply(revoked) end
if state == 'consumed' then return reply({ 'token_already_used', record.consumed }) end
if state == 'reserved' then return reply({ 'token_reserved', record.lease - now }) end
if state ~= 'active' then return reply({ 'token_' .. state }) end

begin_change('', '', '', 0)
if not withdraw(record) then return reply({ 'token_lost' }) end
redis.call('HSET', record_key, 'state', 'revoked')
keep(record, receipt)
return reply(revoked)
