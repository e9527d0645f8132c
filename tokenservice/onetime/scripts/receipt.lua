-- Stands before the verbs that reply with receipts.
local function receipt(record, live, id)
  local state = state_of(record)
  local alive = state == 'active' or state == 'reserved'
  if alive and record.seq and not redis.call('ZSCORE', live, id) then state = 'lost' end
  return { id, state, record.owner, record.subject, record.purpose or '',
    record.created, record.expires, record.consumed or '', record.consumer or '',
    record.replays or '0' }
end
