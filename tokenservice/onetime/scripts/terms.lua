-- Stands before judge.lua: whether a presenter is in the audience, and names the terms.

-- Whether a list, with a line for each member, has this one.
local function lists(list, member)
  return string.find('\n' .. list .. '\n', '\n' .. member .. '\n', 1, true)
end

-- A token without an audience admits every caller that has the secret.
local function admits(record, caller, correo)
  if not record.audience then return true end
  return lists(record.audience, caller) or lists(record.audience, correo)
end

-- The first term that differs, or nil. The presenter may omit the issuers, and the subject unless
-- the token requires it; it must name the purpose and the action of a token that has them, and none
-- of a token without. A presenter with room for so many bytes of data gets no more.
local function mismatch(record, purpose, subject, bind, issuers, room)
  if issuers ~= '' and not lists(issuers, record.owner) then return 'issued_by' end
  if (record.purpose or '') ~= purpose then return 'purpose' end
  local is_asked = subject ~= '' or record.require_subject
  if is_asked and record.subject ~= subject then return 'subject' end
  if (record.bind or '') ~= bind then return 'bind' end
  if room ~= '' and #(record.data or '') > tonumber(room) then return 'data' end
end
