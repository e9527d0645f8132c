-- Asks the gate of the token service about a request, for apache.conf.

local http = require "socket.http"

local GATE = "http://127.0.0.1:8000/token/gate?purpose=app.open&issued_by=backend@example.com&pass_seconds=60&data=1"

http.TIMEOUT = 10 -- More than the service ever takes.

function ask(r)
  local id = r.subprocess_env["UNIQUE_ID"]
  local given = r.headers_in
  -- The gate gets these headers alone, so that no other of a client gains anything there.
  local question = {
    url = GATE,
    redirect = false,
    headers = {
      ["authorization"] = "Bearer " .. os.getenv("TOKEN_GATE_KEY"),
      ["x-one-time-token"] = given["X-One-Time-Token"],
      ["sec-websocket-protocol"] = given["Sec-WebSocket-Protocol"],
      ["cookie"] = given["Cookie"],
      ["x-original-uri"] = r.unparsed_uri,
      ["x-forwarded-for"] = r.useragent_ip,
      ["x-request-id"] = id,
      ["traceparent"] = given["Traceparent"],
      ["idempotency-key"] = id, -- The second time consumes nothing twice.
    },
  }
  local ok, status, answer = http.request(question)
  if not ok then
    ok, status, answer = http.request(question)
  end
  r.subprocess_env["TICKET_CODE"] = answer and answer["x-token-code"]
  if status == 401 or status == 403 then
    return status
  end
  if status ~= 204 then
    r.err_headers_out["Retry-After"] = "1"
    return 503
  end

  for name in pairs(r:headers_in_table()) do
    if name:find("_", 1, true) then
      given[name] = nil -- Some servers read X_Token_Id as X-Token-Id.
    end
  end
  given["X-Token-Id"] = answer["x-token-id"]
  given["X-Token-Subject"] = answer["x-token-subject"]
  given["X-Token-Data"] = answer["x-token-data"]
  given["X-One-Time-Token"] = nil
  given["X-Forwarded-For"] = nil -- Apache adds to it, and to the next one.
  given["X-Forwarded-Host"] = nil
  given["X-Forwarded-Proto"] = r.is_https and "https" or "http"
  given["Connection"] = given["Upgrade"] and "upgrade" -- A client names in it what a proxy removes.
  -- The application of a WebSocket selects the protocol "ott", and never sees the ticket behind it.
  if ("," .. (given["Sec-WebSocket-Protocol"] or "")):find(",%s*ott%s*,") then
    given["Sec-WebSocket-Protocol"] = "ott"
  end
  r.subprocess_env["TICKET_ID"] = answer["x-token-id"]
  if answer["set-cookie"] then
    r.err_headers_out["Set-Cookie"] = answer["set-cookie"]
  end
  return apache2.DECLINED
end
