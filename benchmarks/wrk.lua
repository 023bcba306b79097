-- Sends the bodies of a file in turn. Argument after `--`: the file, which `load.packed` wrote.
local requests, turn = {}, 0

local function in_turn()
  turn = turn % #requests + 1
  return requests[turn]
end

-- wrk has set the header Host by now, and `wrk.format` adds Content-Length.
function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method = "POST"
  for line in function() return file:read("*l") end do
    local length, content_type = line:match("^(%d+) (.+)$")
    wrk.headers["Content-Type"] = content_type
    wrk.body = assert(file:read(tonumber(length)))
    requests[#requests + 1] = wrk.format()
  end
  file:close()
  -- Where there is no function `request`, wrk keeps one request and never asks Lua again.
  if #requests > 1 then
    request = in_turn
  end
end

-- Times are in microseconds.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "duration": %d, "status": %d, "connect": %d, "read": %d, "write": %d, ' ..
    '"timeout": %d, "p50": %d, "p90": %d, "p99": %d, "p999": %d, "most": %d}\n',
    summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write,
    errors.timeout, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), latency.max))
end
