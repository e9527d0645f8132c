-- KEYS: history, index, then records   ARGV: known, then ids
-- Removes ids without a record from the index.
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('ZREM', KEYS[2], ARGV[i - 1]) end
end
return reply({ 'swept' })
