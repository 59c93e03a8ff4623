"""REST through the sidecar in front of httpbin, a server nobody here wrote."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from running import Process, free_port

from sidecar.cli.main import main

CATALOGUE = """\
catalogue: bin
tools:
  get: GET /get
  anything: {route: "GET /anything/{rest...}", mutates: false}
  post: {route: POST /post, args: {amount: int, note: string?}}
  put: PUT /put
  patch: PATCH /patch
  delete: DELETE /delete
  stream: GET /stream/{lines}
  drip: GET /drip
  bytes: GET /bytes/{count}
  redirect: GET /absolute-redirect/{count}
  relative_redirect: GET /relative-redirect/{count}
  redirect_to: GET /redirect-to
  status: GET /status/{code}
  gzip: GET /gzip
  bearer: GET /bearer
  headers: GET /headers
  delay: GET /delay/{seconds}
"""
POLICY = """\
policy: rest
rules:
  - {id: reads, effect: allow, tools: bin/*, mutates: false}
  - {id: writes, effect: allow, tools: [bin/put, bin/patch, bin/delete]}
  - id: small
    effect: allow
    tools: bin/post
    when: args.amount < 100
  - id: large
    effect: deny
    tools: bin/post
    when: args.amount >= 100
    reason: "{args.amount} is too much"
"""


@pytest.fixture(scope="module")
def httpbin() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--threads", "8",
         "--log-level", "critical", "httpbin:app"],
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{url}/get", timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def sidecar(httpbin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    running = Process(tmp_path_factory.mktemp("rest"))
    secret = running.folder / "secret"
    secret.write_text("s3cret-canary")
    secret.chmod(0o600)
    running.write(
        f"  bin: {{url: '{httpbin}', timeouts: {{connect: 2s, response: 3s, idle: 2s}}}}\n"
        f"  keyed: {{url: '{httpbin}', auth: {{bearer: {{file: {secret}}}}}}}\n"
        f"  dead: {{url: 'http://127.0.0.1:{free_port()}'}}\n",
        {
            "bin.yaml": CATALOGUE,
            "keyed.yaml": "catalogue: keyed\ntools: {bearer: GET /bearer, headers: GET /headers}\n",
            "dead.yaml": "catalogue: dead\ntools: {get: GET /get}\n",
            "policy.yaml": POLICY,
            "others.yaml": "policy: others\nrules: [{id: r, effect: allow, "
            "tools: [keyed/*, dead/*], mutates: false}]\n",
        },
    )
    running.start()
    yield running
    running.stop()


Answer = tuple[int, dict[str, str], bytes]


def call(
    sidecar: Process,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.data_port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        fields = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, fields, reply.read()
    finally:
        connection.close()


def post(sidecar: Process, amount: object) -> Answer:
    body = json.dumps({"amount": amount}).encode()
    return call(sidecar, "POST", "/bin/post", body, {"Content-Type": "application/json"})


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_methods_and_bodies_pass_unchanged(sidecar: Process, method: str) -> None:
    body = b'{"a": 1,  "b":[1.0, "\\u00e9"]}'
    status, headers, answer = call(
        sidecar, method, f"/bin/{method.lower()}", body, {"Content-Type": "application/json"}
    )
    assert status == 200
    assert json.loads(answer)["data"].encode() == body
    assert len(headers["aegis-call-id"]) == 32


def test_head_and_get_agree(sidecar: Process) -> None:
    status, headers, body = call(sidecar, "HEAD", "/bin/get")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


def test_allow_deny_and_reason(sidecar: Process) -> None:
    status, _, _ = post(sidecar, 5)
    assert status == 200
    status, headers, body = post(sidecar, 500)
    assert status == 403
    assert headers["content-type"].startswith("application/problem+json")
    problem = json.loads(body)
    assert problem["code"] == "policy_deny"
    assert "500 is too much" in problem["detail"]
    assert problem["call_id"] == headers["aegis-call-id"]


def test_query_and_path_reach_the_upstream_as_sent(sidecar: Process) -> None:
    path = "/anything/a%20b/%C3%A9?x=1&y=a+b%2B"
    status, _, body = call(sidecar, "GET", f"/bin{path}")
    assert status == 200
    seen = json.loads(body)
    assert seen["args"] == {"x": "1", "y": "a b+"}
    assert seen["url"].endswith("x=1&y=a b%2B") or "a+b" in seen["url"] or "a b" in seen["url"]


def test_streams_come_through(sidecar: Process) -> None:
    status, _, body = call(sidecar, "GET", "/bin/stream/5")
    assert status == 200
    assert len(body.splitlines()) == 5


def test_a_slow_stream_is_not_held_back(sidecar: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.data_port, timeout=20)
    started = time.monotonic()
    connection.request("GET", "/bin/drip?duration=1.5&numbytes=4&delay=0")
    reply = connection.getresponse()
    assert reply.read(1) == b"*"
    first_s = time.monotonic() - started
    assert reply.read() == b"***"
    assert time.monotonic() - started > first_s + 0.5
    connection.close()


def test_large_downloads_are_whole(sidecar: Process) -> None:
    status, headers, body = call(sidecar, "GET", "/bin/bytes/102400?seed=7")
    assert status == 200
    assert len(body) == 102400 == int(headers["content-length"])
    again = call(sidecar, "GET", "/bin/bytes/102400?seed=7")[2]
    assert hashlib.sha256(body).digest() == hashlib.sha256(again).digest()


def test_encoded_answers_stay_encoded(sidecar: Process) -> None:
    status, headers, body = call(sidecar, "GET", "/bin/gzip", headers={"Accept-Encoding": "gzip"})
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert body[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("path", ["/bin/absolute-redirect/1", "/bin/relative-redirect/1"])
def test_b22_a_redirect_within_the_upstream_leads_back_through_us(
    sidecar: Process, path: str
) -> None:
    status, headers, _ = call(sidecar, "GET", path)
    assert status == 302
    assert headers["location"].removeprefix(sidecar.url).startswith("/bin/get")


def test_b22_a_foreign_redirect_is_refused(sidecar: Process) -> None:
    status, headers, body = call(sidecar, "GET", "/bin/redirect-to?url=http://169.254.169.254/")
    assert status == 403
    assert json.loads(body)["code"] == "redirect_refused"
    assert "location" not in headers


def test_upstream_errors_have_codes(sidecar: Process) -> None:
    assert call(sidecar, "GET", "/bin/status/418")[0] == 418
    status, _, body = call(sidecar, "GET", "/dead/get")
    assert (status, json.loads(body)["code"]) == (502, "upstream_unreachable")
    status, _, body = call(sidecar, "GET", "/bin/delay/9")
    assert (status, json.loads(body)["code"]) == (504, "upstream_timeout")
    status, _, body = call(sidecar, "GET", "/nowhere/get")
    assert (status, json.loads(body)["code"]) == (404, "unknown_upstream")


def unaccounted(metrics: dict[str, float]) -> float:
    """Intents of calls that were to be sent on, less those that were: what the alert compares."""
    outcomes = ("not_forwarded", "delegated")
    ended = sum(metrics[f'aegis_outcomes_total{{outcome="{one}"}}'] for one in outcomes)
    return metrics["aegis_intents_total"] - ended - metrics["aegis_forwarded_total"]


def test_a_call_that_no_upstream_saw_leaves_no_room_for_one_without_a_record(
    sidecar: Process,
) -> None:
    before = sidecar.metrics()
    assert unaccounted(before) >= 0
    for _ in range(3):
        assert call(sidecar, "GET", "/dead/get")[0] == 502
    after = sidecar.metrics()
    assert after["aegis_intents_total"] == before["aegis_intents_total"] + 3
    assert after["aegis_forwarded_total"] == before["aegis_forwarded_total"]
    assert unaccounted(after) == unaccounted(before)
    assert call(sidecar, "GET", "/bin/get")[0] == 200
    last = sidecar.metrics()
    assert last["aegis_forwarded_total"] == after["aegis_forwarded_total"] + 1, "positive control"
    assert unaccounted(last) == unaccounted(before)


def test_credentials_are_injected_and_the_agent_cannot_replace_them(sidecar: Process) -> None:
    sent = {
        "Authorization": "Bearer the-agents-own",
        "Aegis-Run": "r1",
        "X-Forwarded-For": "6.6.6.6",
    }
    status, _, body = call(sidecar, "GET", "/keyed/bearer", headers=sent)
    assert (status, json.loads(body)["token"]) == (200, "s3cret-canary")
    seen = json.loads(call(sidecar, "GET", "/bin/headers", headers=sent)[2])["headers"]
    assert seen["Authorization"] == "Bearer the-agents-own"
    assert not [name for name in seen if name.lower().startswith(("aegis-", "x-forwarded"))]


def test_b15_too_large_a_body_is_413_and_recorded(sidecar: Process) -> None:
    status, headers, body = call(
        sidecar, "PUT", "/bin/put", b"x" * (1024 * 1024 + 1), {"Content-Type": "text/plain"}
    )
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")
    recorded = [r for r in sidecar.receipts() if r["call_id"] == headers["aegis-call-id"]]
    assert [r["outcome"] for r in recorded] == ["body_too_large"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"amount":1,"amount":2}', "invalid_json"),
        (b'{"amount":NaN}', "invalid_json"),
        (b'{"amount":"\\ud800"}', "invalid_json"),
        (b"\xff\xfe{}", "invalid_json"),
        (b'{"amount":' + b"[" * 200 + b"]" * 200 + b"}", "invalid_json"),
        (b'{"amount":9007199254740993}', "invalid_json"),
        (b'{"amount":"five"}', "invalid_argument"),
        (b'{"amount":1,"amuont":2}', "invalid_argument"),
    ],
)
def test_c1_c2_c3_c4_bad_bodies_are_refused_and_recorded(
    sidecar: Process, body: bytes, code: str
) -> None:
    status, headers, answer = call(
        sidecar, "POST", "/bin/post", body, {"Content-Type": "application/json"}
    )
    assert (status, json.loads(answer)["code"]) == (400, code)
    recorded = [r for r in sidecar.receipts() if r["call_id"] == headers["aegis-call-id"]]
    assert [(r["kind"], r["outcome"]) for r in recorded] == [("refusal", code)]


@pytest.mark.parametrize(
    "path",
    ["/bin/anything/../get", "/bin/anything/%2e%2e/get", "/bin/anything/a%2fb", "/bin//get",
     "/bin/anything/%252e", "/bin/anything/a\\b", "/bin/anything/%00", "/bin/anything/%zz"],
)  # fmt: skip
def test_b9_paths_that_can_be_read_twice_are_400(sidecar: Process, path: str) -> None:
    status, _, body = call(sidecar, "GET", path)
    assert status == 400
    assert json.loads(body)["code"] in ("ambiguous_path", "malformed_request")


def test_g5_no_secret_reaches_log_store_or_metrics(sidecar: Process) -> None:
    call(sidecar, "GET", "/keyed/bearer", headers={"Authorization": "Bearer agents-canary"})
    body = json.dumps({"password": "password-canary"}).encode()
    call(sidecar, "PUT", "/bin/put", body, {"Content-Type": "application/json"})
    sidecar.metrics()
    texts = [sidecar.log().encode(), json.dumps(sidecar.metrics()).encode()]
    texts += [path.read_bytes() for path in sidecar.folder.glob("aegis.db*")]
    for canary in (b"s3cret-canary", b"agents-canary", b"password-canary"):
        assert not [text for text in texts if canary in text]
    assert [text for text in texts if b"bin/put" in text], "positive control: the store was read"


@pytest.mark.parametrize("ending", ["half-close", "reset"])
def test_b15_a_body_that_breaks_off_is_on_record_and_not_forwarded(
    sidecar: Process, ending: str
) -> None:
    def refused() -> list[dict[str, object]]:
        return [one for one in sidecar.receipts() if one["outcome"] == "body_incomplete"]

    before = len(refused())
    forwarded = sidecar.metrics()["aegis_forwarded_total"]
    client = socket.create_connection(("127.0.0.1", sidecar.data_port), timeout=5)
    client.sendall(
        f"POST /bin/post HTTP/1.1\r\nHost: 127.0.0.1:{sidecar.data_port}\r\n"
        "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{".encode()
    )
    time.sleep(0.2)
    if ending == "half-close":
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"body_incomplete" in answer
    else:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    until = time.monotonic() + 5
    while len(refused()) == before and time.monotonic() < until:
        time.sleep(0.05)
    assert len(refused()) == before + 1
    assert sidecar.metrics()["aegis_forwarded_total"] == forwarded


def test_f7_what_rules_saw_of_a_call_cannot_be_told_otherwise(
    sidecar: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    assert post(sidecar, 500)[0] == 403
    assert call(sidecar, "GET", "/bin/anything/secret-plan")[0] == 200
    path = sidecar.folder / "facts.jsonl"
    export = ("receipts", "export", "--facts", "--output", str(path))
    assert main([*export, "--config", str(sidecar.config)]) == 0
    assert main(["receipts", "verify", str(path)]) == 0
    assert "all as they were when they were recorded" in capsys.readouterr().out
    whole = path.read_text()
    for was, other in (("500 is too much", "5 is too much"), ("/secret-plan", "/public-plan")):
        assert was in whole
        path.write_text(whole.replace(was, other))
        assert main(["receipts", "verify", str(path)]) == 1
        assert "its facts are not those its salt stands for" in capsys.readouterr().out
