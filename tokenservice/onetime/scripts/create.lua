-- KEYS: record   ARGV: verifier, owner, life in ms, receipt in ms
local created = now()
local expires = created + ARGV[3]
local run = run_id()
redis.call('HSET', KEYS[1],
  'verifier', ARGV[1], 'owner', ARGV[2], 'run', run, 'state', 'active',
  'created', created, 'expires', expires)
redis.call('PEXPIREAT', KEYS[1], expires + ARGV[4])
return {'created', run, created, expires}
