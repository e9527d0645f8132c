-- KEYS: history, cut, live   ARGV: known, owner, field of the cut ('all', 'p:<purpose>' or
-- 's:<subject>'), ms for which the owner creates nothing (0 where it may), most narrow fields
-- Every outstanding record has a `seq` below the new count, and every later one has not.
local cut, live = KEYS[2], KEYS[3]
local owner, field, off, most = unpack(ARGV, 2)
local life, kept = redis.call('PTTL', live), redis.call('PTTL', cut)
off = tonumber(off)
-- The live tokens outlast the records of this term: without them nothing is outstanding.
if life == -2 and off == 0 then return reply({ 'revoked' }) end

local shut = 'off:' .. owner
local known = redis.call('HMGET', cut, field, 'narrow', shut)
local fields, narrow = { field, 0 }, tonumber(known[2] or 0)
if field ~= 'all' and not known[1] then
  if narrow >= tonumber(most) then return reply({ 'too_many_cuts', kept }) end
  fields[3], fields[4] = 'narrow', narrow + 1
end
local until_then = off > 0 and now + off or known[3]
if until_then then
  fields[#fields + 1] = shut
  fields[#fields + 1] = until_then
end

-- Opens a full server, as in judge.lua.
redis.call('HDEL', cut, '')
count = redis.call('HINCRBY', KEYS[1], 'count', 1)
fields[2] = count
redis.call('HSET', cut, unpack(fields))
if field == 'all' then
  -- It covers the narrow ones. Redis has just taken an HSET, and takes the next one.
  if narrow > 0 then
    redis.call('DEL', cut)
    redis.call('HSET', cut, unpack(fields))
  end
  -- This frees the places under the cap, and the release before finds its tokens lost.
  redis.call('DEL', live)
end
-- The cut stays as long as a record that it revokes. (-1 is a key that somebody keeps for ever.)
if life ~= -1 and kept ~= -1 then redis.call('PEXPIRE', cut, math.max(life, off, kept)) end
return reply({ 'revoked' })
