-- KEYS: record   ARGV: verifier ('' where the owner names it by id), epoch, caller, correo
local verifier, epoch, caller, correo = unpack(ARGV)
local record = read(KEYS[1])
if not record.verifier then return missing(epoch) end
if verifier == '' then
  if record.owner ~= caller then return { 'unknown' } end
else
  if record.verifier ~= verifier then return missing(epoch) end
  if record.owner ~= caller and not admits(record, caller, correo) then
    return { 'not_for_caller' }
  end
end

local state = state_of(record)
if state == 'revoked' then return { 'revoked_now' } end
if state == 'consumed' then return { 'consumed_before', record.consumed } end
if state == 'reserved' then return { state, record.lease - now } end
if state ~= 'active' then return { state } end

open_for_writing()
redis.call('HSET', KEYS[1], 'state', 'revoked')
free_place(record)
return { 'revoked_now' }
