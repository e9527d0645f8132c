-- The requests of wrk, and its summary: one line of "name value" pairs on standard output.
-- BENCH_KIND is pair (create, then validate that token), create, validate (each token of
-- BENCH_TOKENS once) or read (a GET). With BENCH_CALLERS, a file of JWTs, the requests are those
-- of one caller after the other, from number BENCH_FIRST on.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } moment;
  int clock_gettime(int clock, moment *now);
]]

local kind = os.getenv("BENCH_KIND")
local rate = tonumber(os.getenv("BENCH_RATE")) -- calls a second, or nil for as many as possible
local kept = os.getenv("BENCH_TOKENS") -- the file of tokens that create writes and validate reads
local timely_within = tonumber(os.getenv("BENCH_TIMELY_MS")) -- or nil, and then no time is taken
local tokens, headers = {}, { ["Content-Type"] = "application/json" }
local callers, turn = nil, tonumber(os.getenv("BENCH_FIRST")) or 0
local create, read
local slot
-- done() can read only global variables of a thread.
created, others, unexpected, first = 0, 0, 0, nil
timely, busy, failed = 0, 0, 0

local function now()
  local moment = ffi.new("moment")
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local function call(name) return string.match(os.getenv("BENCH_" .. name), "(%S+) (%S+)") end

local function written(name, body)
  local method, path = call(name)
  return wrk.format(method, path, headers, method ~= "GET" and body or nil)
end

function setup(thread) worker = thread end

function init()
  for name, value in string.gmatch(os.getenv("BENCH_HEADERS"), "([%w-]+): ([^\r\n]+)") do
    headers[name] = value
  end
  if os.getenv("BENCH_CALLERS") then
    callers = {}
    for jwt in io.lines(os.getenv("BENCH_CALLERS")) do callers[#callers + 1] = "Bearer " .. jwt end
  end
  create = written("CREATE", os.getenv("BENCH_BODY"))
  read = kind == "read" and written("READ")
  if kind == "validate" then
    for token in io.lines(kept) do tokens[#tokens + 1] = token end
  elseif kind == "create" then
    kept = io.open(kept, "w")
  end
end

-- Slots of 1/rate seconds, so that a slow response does not lower the rate.
if rate then
  function delay()
    local at = now()
    slot = math.max(slot and slot + 1 / rate or at, at - 1)
    return math.max(0, math.floor((slot - at) * 1000))
  end
end

function request()
  if kind == "read" then return read end
  if callers then
    headers["Authorization"] = callers[turn % #callers + 1]
    turn = turn + 1
  end
  -- wrk does not tell which request a response is to, but the service repeats this header.
  if timely_within then headers["X-Request-ID"] = string.format("%.6f", now()) end
  local token = kind ~= "create" and table.remove(tokens)
  if token then return written("VALIDATE", '{"token": "' .. token .. '"}') end
  if callers or timely_within then return written("CREATE", os.getenv("BENCH_BODY")) end
  return create
end

local function count(status, headers)
  if status < 300 then
    local sent = tonumber(headers["X-Request-ID"])
    if sent and (now() - sent) * 1000 <= timely_within then timely = timely + 1 end
  elseif status == 503 and headers["Retry-After"] then
    busy = busy + 1
  else
    failed = failed + 1
  end
end

function response(status, headers, body)
  if timely_within then count(status, headers) end
  local token = status < 300 and kind ~= "read" and string.match(body, '^{"token": ?"([^"]+)"')
  if token and kind == "create" then
    kept:write(token, "\n")
  elseif token then
    tokens[#tokens + 1] = token
  end
  if status >= 300 then
    unexpected = unexpected + 1
    if unexpected == 1 then first = status .. " " .. string.sub(body, 1, 300) end
  elseif token then
    created = created + 1
  else
    others = others + 1
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "bench requests %d created %d others %d unexpected %d timely %d busy %d failed %d lost %d "
      .. "seconds %.6f p50 %d p99 %d p999 %d\n",
    summary.requests, worker:get("created"), worker:get("others"), worker:get("unexpected"),
    worker:get("timely"), worker:get("busy"), worker:get("failed"),
    errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
  local first = worker:get("first")
  if first then io.write("first ", first, "\n") end
end
