-- KEYS: history, cut   ARGV: known, owner   A disabled owner may create again.
redis.call('HDEL', KEYS[2], 'off:' .. ARGV[2])
return reply({ 'enabled' })
