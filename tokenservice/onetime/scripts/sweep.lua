-- KEYS: history, cut, index, then records   ARGV: known, receipt ms, then ids
-- Removes ids without a record from the index. A record below the cut stays as long as a receipt: a
-- cut of all frees places under the cap, and records of a day would fill Redis.
local kept = tonumber(ARGV[2])
local is_cut = redis.call('EXISTS', KEYS[2]) == 1
for i = 4, #KEYS do
  local rest = redis.call('PTTL', KEYS[i])
  if rest == -2 then
    redis.call('ZREM', KEYS[3], ARGV[i - 1])
  elseif is_cut and rest > kept + 10000 and state_of(read(KEYS[i])) == 'revoked' then
    redis.call('PEXPIRE', KEYS[i], kept)
  end
end
return reply({ 'swept' })
