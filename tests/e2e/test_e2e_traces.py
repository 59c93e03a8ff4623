"""A real sidecar that is told to send spans, and who receives them: OTLP over HTTP on loopback."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from running import Process

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CANARY = "hunter2-canary"
CATALOGUE = (
    "catalogue: up\ntools: {get: 'GET /get/{name}', pay: {route: POST /pay}, ask: GET /ask}\n"
)
POLICY = """\
policy: ops
rules:
  - {id: reads, effect: allow, tools: up/get}
  - {id: no, effect: deny, tools: up/pay, when: 'args.word != ""', reason: "not {args.word}"}
  - {id: pays, effect: allow, tools: up/pay}
  - {id: asks, effect: require_approval, tools: up/ask}
"""


class Upstream(BaseHTTPRequestHandler):
    """Answers, and keeps the headers of the trace context that came."""

    came: list[tuple[str | None, str | None]]

    def do_GET(self) -> None:
        self.came.append((self.headers["traceparent"], self.headers["tracestate"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:
        return


class Collector(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    bodies: list[bytes]
    came: list[object]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        return


def serving(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def servers() -> Iterator[tuple[str, str]]:
    Upstream.came, Collector.bodies = [], []
    pair = serving(Upstream), serving(Collector)
    yield (f"http://127.0.0.1:{pair[0].server_port}", f"http://127.0.0.1:{pair[1].server_port}")
    for one in pair:
        one.shutdown()
        one.server_close()


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.kill()


def called(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def received() -> list[Span]:
    spans = []
    for body in Collector.bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert names["service.name"] == "gate" and names["service.version"]
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    return spans


def test_a_call_and_its_stages_arrive_at_a_collector_and_nothing_of_its_arguments(
    sidecar: Process, servers: tuple[str, str]
) -> None:
    upstream, collector = servers
    sidecar.write(f"  up: {{url: '{upstream}'}}", {"tools.yaml": CATALOGUE, "policy.yaml": POLICY},
                  "approvals: {hold: 200ms}")  # fmt: skip
    sidecar.environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_SERVICE_NAME": "gate",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }  # fmt: skip
    sidecar.start()
    context = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    secret = {**context, "Authorization": f"Bearer {CANARY}", "X-Word": CANARY}
    read = urllib.request.Request(f"{sidecar.url}/up/get/{CANARY}?q={CANARY}", headers=secret)
    assert called(read) == 200
    assert Upstream.came == [(context["traceparent"], context["tracestate"])], "as it came"
    body = json.dumps({"word": CANARY}).encode()
    headers = {**secret, "Content-Type": "application/json"}
    assert called(urllib.request.Request(f"{sidecar.url}/up/pay", body, headers)) == 403
    unknown = urllib.request.Request(f"{sidecar.url}/up/{CANARY}", headers=secret)
    assert called(unknown) == 403
    assert called(urllib.request.Request(f"{sidecar.url}/up/ask", headers=secret)) == 403
    begun = time.monotonic()
    assert sidecar.stop() == 0
    assert time.monotonic() - begun < 15

    spans = {span.name: span for span in received() if span.parent_span_id.hex() == PARENT}
    assert set(spans) == {"call up/get", "call up/pay", "call up/unknown", "call up/ask"}
    assert {span.trace_id.hex() for span in received()} == {TRACE}
    inner = [s for s in received() if s.parent_span_id == spans["call up/get"].span_id]
    assert [span.name for span in inner] == ["judge", "record", "forward"]
    whole = spans["call up/get"]
    for before, after in itertools.pairwise(inner):
        assert before.start_time_unix_nano <= before.end_time_unix_nano
        assert before.end_time_unix_nano <= after.start_time_unix_nano + 1000
    assert whole.start_time_unix_nano <= inner[0].start_time_unix_nano
    assert inner[-1].end_time_unix_nano <= whole.end_time_unix_nano + 1000
    held = [s for s in received() if s.parent_span_id == spans["call up/ask"].span_id]
    assert [span.name for span in held] == ["judge", "hold"]
    assert 190e6 <= held[1].end_time_unix_nano - held[1].start_time_unix_nano < 5e9
    said = {one.key: one.value.string_value for one in spans["call up/pay"].attributes}
    assert (said["aegis.rule"], said["aegis.refusal"]) == ("ops/no", "policy_deny")
    recorded = [one for one in sidecar.receipts() if one["kind"] in ("intent", "refusal")]
    assert len(recorded) > 2 and {one["trace_id"] for one in recorded} == {TRACE}
    for word in (CANARY, "vendor=1"):
        found = [body for body in Collector.bodies if word.encode() in body]
        assert bool(found) == (word == "vendor=1"), "the caller's state goes on, nothing else"
