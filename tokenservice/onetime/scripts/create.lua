-- KEYS: history, cut, live, index, owners, then records, last idem where the caller sent a key
-- ARGV: known, owner, life ms, most active, idempotency key, request, window ms, receipt ms,
-- purpose, audience, subject, data, bind, require_subject, key, then id and verifier of each.
-- All or none.
local live, index, idem = KEYS[3], KEYS[4], KEYS[#KEYS]
local owner, life, most, name, request, window, receipt = unpack(ARGV, 2, 8)
local names = { 'purpose', 'audience', 'subject', 'data', 'bind', 'require_subject',
  'issued_with' }
local added = (#ARGV - 15) / 2
-- 64 days, which no live set outlasts.
local remembered = 64 * 86400000

-- A worker may remember for minutes that the account of a disabled owner is active.
local cut, off = cut_of(owner, ARGV[9], ARGV[11])
if off and now < tonumber(off) then return reply({ 'owner_disabled' }) end

-- Tokens of another term, or under the floor, are lost: instead of replaying them, issue new ones.
local issued_in = term_now .. (floor and ' ' .. floor .. ';' or '')
local known = name ~= '' and redis.call('GET', idem)
if known then
  if string.sub(known, 1, #request) ~= request then
    return reply({ 'idempotency_mismatch' })
  end
  local kept = string.sub(known, #request + 1)
  if string.sub(kept, 1, #issued_in) == issued_in then
    return reply({ 'known', string.sub(kept, #issued_in + 1) })
  end
end

-- A live set holds the tokens of one term and floor, and a mark of both that never expires. Tokens
-- of another term are lost and take no place.
local mark = term_now .. ' ' .. (floor or '')
local stale = not redis.call('ZSCORE', live, mark)
local active = stale and 0 or redis.call('ZCOUNT', live, '(' .. now, '(+inf')
local missing = active + added - most
if missing > 0 then
  local ends = redis.call('ZRANGEBYSCORE', live, '(' .. now, '(+inf', 'WITHSCORES',
    'LIMIT', missing - 1, 1)
  return reply({ 'too_many_active', not stale and ends[2] and ends[2] - now or 0 })
end

-- Data that were put back without the cut count less than it: a new token is not below it.
if cut > tonumber(count) then count, history[1] = cut, false end
local expires = now + life
-- Scores are unique within an owner, so that a number is a cursor: microseconds, or one more than
-- the newest score where several share one or the clock went back.
local newest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
local score = math.max(now_us, newest[2] and newest[2] + 1 or 0)
local alive, indexed, ids = {}, {}, {}
for i = 1, added do
  local id = ARGV[14 + 2 * i]
  local record = { 'verifier', ARGV[15 + 2 * i], 'owner', owner, 'term', term_now, 'seq', count,
    'state', 'active', 'created', now, 'expires', expires }
  for place, field in ipairs(names) do
    local value = ARGV[8 + place]
    if value ~= '' then record[#record + 1] = field; record[#record + 1] = value end
  end
  -- The first write: a full server refuses it, and with it all others.
  redis.call('HSET', KEYS[5 + i], unpack(record))
  redis.call('PEXPIREAT', KEYS[5 + i], expires + receipt)
  ids[i] = id
  alive[2 * i - 1], alive[2 * i] = expires, id
  indexed[2 * i - 1], indexed[2 * i] = score + i - 1, id
end
if not history[1] then redis.call('HSET', KEYS[1], 'count', count) end
if stale then
  redis.call('DEL', live)
  redis.call('ZADD', live, '+inf', mark)
end
redis.call('ZADD', live, unpack(alive))
redis.call('ZADD', index, unpack(indexed))
for _, set in ipairs({ live, index }) do
  if redis.call('PTTL', set) < life + receipt then redis.call('PEXPIRE', set, life + receipt) end
end
redis.call('ZREMRANGEBYSCORE', live, '-inf', now)
if name ~= '' then
  redis.call('SET', idem, request .. issued_in .. ' ' .. table.concat(ids, ' '), 'PX', window)
end

-- Now and then the caller sweeps some ids whose records are gone from the index: on average three
-- for each id that is added, or the index would grow. After a cut it sweeps records too.
local sample, sweeps = {}, redis.call('ZCARD', index) % 32 < added
if sweeps then
  sample = redis.call('ZRANDMEMBER', index, (cut > 0 and 5 or 3) * math.max(32, added))
end
-- The census finds the live set by it. A set that the release before made is found with the sweep.
if stale or sweeps then
  redis.call('ZADD', KEYS[5], now, string.sub(live, -6))
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - remembered)
  redis.call('PEXPIRE', KEYS[5], remembered)
end
return reply({ 'created', now, expires, sample })
