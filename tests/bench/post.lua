-- One tools/call of about 300 bytes; latency percentiles are printed as one JSON line.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
wrk.headers["Authorization"] = "Bearer 0123456789abcdef0123456789abcdef"
wrk.body = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"tool_42","arguments":' ..
  '{"owner":"acme","repo":"web","number":1207,"title":"Keep the lights on","labels":["ops","night"],' ..
  '"options":{"draft":false,"squash":true,"depth":3},"note":"one two three four five six seven eight nine ten"}}}'

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"status_errors":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
