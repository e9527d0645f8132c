-- The requests of wrk, and its summary: one line of "name value" pairs on standard output.
-- BENCH_KIND is pair (create, then validate that token), create, validate (each token of
-- BENCH_TOKENS once) or read (a GET).
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } moment;
  int clock_gettime(int clock, moment *now);
]]

local kind = os.getenv("BENCH_KIND")
local rate = tonumber(os.getenv("BENCH_RATE")) -- calls a second, or nil for as many as possible
local kept = os.getenv("BENCH_TOKENS") -- the file of tokens that create writes and validate reads
local tokens, headers = {}, { ["Content-Type"] = "application/json" }
local create, read
local slot
-- done() can read only global variables of a thread.
created, others, unexpected, first = 0, 0, 0, nil

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
  local token = kind ~= "create" and table.remove(tokens)
  if token then return written("VALIDATE", '{"token": "' .. token .. '"}') end
  return create
end

function response(status, _, body)
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
    "bench requests %d created %d others %d unexpected %d lost %d seconds %.6f p50 %d p99 %d p999 %d\n",
    summary.requests, worker:get("created"), worker:get("others"), worker:get("unexpected"),
    errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
  local first = worker:get("first")
  if first then io.write("first ", first, "\n") end
end
