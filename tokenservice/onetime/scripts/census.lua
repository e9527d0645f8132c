-- KEYS: history, cut, owners, held   ARGV: known, most
-- The owners that may have outstanding tokens: how many, and at most so many of them; and how many
-- tokens are held. Changes nothing.
local mark = term_now .. ' ' .. (floor or '')
local is_current = redis.call('ZSCORE', KEYS[4], mark)
return reply({ 'census', redis.call('ZCARD', KEYS[3]), redis.call('ZRANDMEMBER', KEYS[3], ARGV[2]),
  is_current and redis.call('ZCOUNT', KEYS[4], '(' .. now, '(+inf') or 0 })
