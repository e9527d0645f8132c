-- KEYS: record   ARGV: verifier, epoch, caller
local verifier, state, run, owner, created, expires, consumed = unpack(redis.call('HMGET',
  KEYS[1], 'verifier', 'state', 'run', 'owner', 'created', 'expires', 'consumed'))
local run_now = run_id()

if not verifier then
  if string.sub(run_now, 1, #ARGV[2]) ~= ARGV[2] then return {'lost'} end
  return {'unknown'}
end
-- Both sides are SHA-256, and Lua compares interned strings by address: no timing to learn from.
if verifier ~= ARGV[1] then return {'unknown'} end

-- A record that says consumed is believed whoever wrote it; only "active" needs the fence.
if state == 'consumed' then
  redis.pcall('HINCRBY', KEYS[1], 'replays', 1)
  return {'already_used', consumed}
end
local moment = now()
if moment >= tonumber(expires) then return {'expired'} end
if run ~= run_now then return {'lost'} end

open_for_writing(KEYS[1])
redis.call('HSET', KEYS[1], 'state', 'consumed', 'consumed', moment, 'consumer', ARGV[3])
return {'consumed', owner, created, moment}
