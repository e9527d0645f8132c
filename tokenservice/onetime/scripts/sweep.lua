-- KEYS: history, index, then records   ARGV: known, then ids
-- Takes the ids of records that are gone out of the index.
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('ZREM', KEYS[2], ARGV[i - 1]) end
end
return reply({ 'swept' })
