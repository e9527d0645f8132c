-- KEYS: history, cut, index, live, then records   ARGV: known, owner, state, purpose, then ids
-- The receipts that match the filter. Two owners with one handle share an index.
local owner, state, purpose = unpack(ARGV, 2, 4)
local items = {}
for i = 5, #KEYS do
  local id, record = ARGV[i], read(KEYS[i])
  if not record.verifier then
    redis.call('ZREM', KEYS[3], id)
  elseif record.owner == owner then
    local item = receipt(record, KEYS[4], id)
    if (state == '' or item[2] == state) and (purpose == '' or record.purpose == purpose) then
      items[#items + 1] = item
    end
  end
end
return reply({ 'listed', items })
