-- KEYS: record of the first   ARGV: owner, life ms, receipt ms, most active, idempotency key,
-- request, window ms, purpose, audience, subject, data, bind, then id and verifier of each.
-- All or none.
local owner, life, receipt, most, key, request, window = unpack(ARGV, 1, 7)
local names = { 'purpose', 'audience', 'subject', 'data', 'bind' }
local live, index = sibling('live', term_now .. ':' .. owner), sibling('index', owner)

local known, answer = recall(key, request)
if known == 'idempotency_mismatch' then return { known } end
-- What was issued in another term is lost, and repeating it would help nobody: issue anew.
if known and string.sub(answer, 1, #term_now) == term_now then
  local reply = { 'created', term_now }
  for id in string.gmatch(string.sub(answer, #term_now + 1), '%w+') do
    local record = read(shard .. id)
    if not record.verifier then return { 'unknown' } end
    reply[3], reply[4] = record.created, record.expires
    table.insert(reply, id)
    table.insert(reply, record.verifier)
  end
  return reply
end

local count = (#ARGV - 12) / 2
if redis.call('ZCOUNT', live, '(' .. now, '+inf') + count > tonumber(most) then
  local first = redis.call('ZRANGEBYSCORE', live, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return { 'too_many_active', first[2] and first[2] - now or 0 }
end

local expires, ids = now + life, {}
-- Scores are unique for one owner, so that one number is a cursor: microseconds, or one more
-- than the newest where several share one or the clock went back.
local newest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
local score = math.max(now_us, newest[2] and newest[2] + 1 or 0)
for i = 13, #ARGV, 2 do
  local id = ARGV[i]
  local record = { 'verifier', ARGV[i + 1], 'owner', owner, 'term', term_now, 'state', 'active',
    'created', now, 'expires', expires }
  for place, name in ipairs(names) do
    local value = ARGV[7 + place]
    if value ~= '' then record[#record + 1] = name; record[#record + 1] = value end
  end
  redis.call('HSET', shard .. id, unpack(record))
  redis.call('PEXPIREAT', shard .. id, expires + receipt)
  redis.call('ZADD', live, expires, id)
  redis.call('ZADD', index, score + #ids, id)
  ids[#ids + 1] = id
end
for _, set in ipairs({ live, index }) do
  if redis.call('PTTL', set) < life + receipt then redis.call('PEXPIRE', set, life + receipt) end
end

-- Sweeping comes last: were it the first write, a full server would let all the others pass.
-- As much as was added, several times over, or the index of who only makes batches would grow.
redis.call('ZREMRANGEBYSCORE', live, '-inf', now)
for _, id in ipairs(redis.call('ZRANDMEMBER', index, 3 * count)) do
  if redis.call('EXISTS', shard .. id) == 0 then redis.call('ZREM', index, id) end
end
remember(key, request, term_now .. table.concat(ids, ' '), window)
return { 'created', term_now, now, expires }
