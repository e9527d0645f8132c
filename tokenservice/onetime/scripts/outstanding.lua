-- KEYS: history, cut, owners, then live sets   ARGV: known, then the owner of each
-- The members of live sets that count under the cap. An owner without a live set is forgotten.
local mark, total = term_now .. ' ' .. (floor or ''), 0
for i = 4, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('ZREM', KEYS[3], ARGV[i - 2])
  elseif redis.call('ZSCORE', KEYS[i], mark) then
    total = total + redis.call('ZCOUNT', KEYS[i], '(' .. now, '(+inf')
  end
end
return reply({ 'outstanding', total })
