-- Asks the gate of the token service about a request, for haproxy.cfg.

local GATE = "http://gate/token/gate?purpose=app.open&issued_by=backend@example.com&pass_seconds=60&data=1"

-- The variables for haproxy.cfg, and the headers of the gate.
local ANSWERS = {
  ticket_id = "x-token-id",
  ticket_subject = "x-token-subject",
  ticket_data = "x-token-data",
  ticket_code = "x-token-code",
  pass = "set-cookie",
}

-- All lines of a header, as one.
local function line(headers, name, separator)
  local lines = {}
  for place, text in pairs(headers[name] or {}) do
    lines[place + 1] = text
  end
  return table.concat(lines, separator)
end

core.register_action("ask", { "http-req" }, function(txn)
  local given, id = txn.http:req_get_headers(), txn:get_var("txn.id")
  -- The gate gets these headers alone, so that no other of a client gains anything there.
  local response = core.httpclient():get{
    url = GATE,
    dst = "abns@token-gate",
    timeout = 20000,
    headers = {
      ["x-one-time-token"] = { line(given, "x-one-time-token", ", ") },
      ["sec-websocket-protocol"] = { line(given, "sec-websocket-protocol", ", ") },
      ["cookie"] = { line(given, "cookie", "; ") },
      ["x-original-uri"] = { txn.sf:url() },
      ["x-forwarded-for"] = { txn.sf:src() },
      ["x-request-id"] = { id },
      ["traceparent"] = { line(given, "traceparent", ", ") },
      ["idempotency-key"] = { id }, -- A retry of HAProxy consumes nothing twice.
    },
  }
  txn:set_var("txn.status", response.status)
  for name, header in pairs(ANSWERS) do
    local lines = response.headers and response.headers[header]
    if lines then
      txn:set_var("txn." .. name, lines[0])
    end
  end
end)
