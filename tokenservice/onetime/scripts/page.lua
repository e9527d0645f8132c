-- KEYS: history, cut, index   ARGV: known, cursor (a score, exclusive; '' to begin), limit
-- The ids of one page of the index, newest first, and the cursor of the next page.
local cursor, limit = unpack(ARGV, 2)
local from = cursor == '' and '+inf' or '(' .. cursor
local found = redis.call('ZREVRANGEBYSCORE', KEYS[3], from, '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
local ids = {}
for i = 1, #found, 2 do ids[#ids + 1] = found[i] end
return reply({ 'page', #ids == tonumber(limit) and found[#found] or '', ids })
