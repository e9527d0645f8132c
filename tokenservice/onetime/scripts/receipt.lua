-- Stands before the verbs that reply with a state.

-- A token that is no longer among its owner's live ones is lost, as a consume would find.
local function shown_state(record, live, id)
  local state = state_of(record)
  local alive = state == 'active' or state == 'reserved'
  if alive and record.seq and not redis.call('ZSCORE', live, id) then return 'lost' end
  return state
end

local function receipt(record, live, id)
  return { id, shown_state(record, live, id), record.owner, record.subject, record.purpose or '',
    record.created, record.expires, record.consumed or '', record.consumer or '',
    record.replays or '0', record.consumed_with or '', record.issued_with or '' }
end
