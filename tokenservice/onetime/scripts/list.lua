-- KEYS: index of the owner   ARGV: cursor (a score, exclusive; '' to begin), limit, state, purpose
-- Looks at `limit` records and no more, whatever the filter lets through: a page may be short,
-- but its cost is not open-ended.
local cursor, limit, state, purpose = unpack(ARGV)
local from = cursor == '' and '+inf' or '(' .. cursor
local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], from, '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
local items = {}
for i = 1, #found, 2 do
  local id, record = found[i], read(shard .. found[i])
  if not record.verifier then
    redis.call('ZREM', KEYS[1], id)
  else
    local item = receipt(id, record)
    if (state == '' or item[2] == state) and (purpose == '' or record.purpose == purpose) then
      items[#items + 1] = item
    end
  end
end
local more = #found == limit * 2 and found[#found] or ''
return { 'listed', more, items }
