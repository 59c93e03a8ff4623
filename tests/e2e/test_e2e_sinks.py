"""Who is told, as users meet it: a real sidecar, real receivers, and those that mean no good."""

from __future__ import annotations

import contextlib
import hmac
import http.client
import json
import socket
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from running import Process, free_port
from tool_server import QuietTools, serving

CATALOGUE = """catalogue: shop
tools:
  buy: POST /buy/{what}
  look: GET /look
  empty: DELETE /all
"""
DETECTION = """detection: refused
severity: critical
where: {effect: deny}
reason: "{agent.name} was refused"
"""
POLICY = """policy: shop
rules:
  - {id: all, effect: allow, tools: [shop/buy, shop/look]}
  - {id: asks, effect: require_approval, tools: shop/buy, reason: "buys {args.what}"}
"""
KEY = "a-signing-key-of-this-test"
#: What a call takes while nobody is told anything.
QUIET_S: list[float] = []
SECRETS = (KEY, "hunter2secret")


class _Shop(QuietTools):
    def do_GET(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # in one piece

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.say_ok()


class _Hook(QuietTools):
    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).got.append((dict(self.headers), body))
        self.say_ok()


class _Chat(_Hook):
    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []


class _Gone(QuietTools):
    status: ClassVar[int] = 410

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Broken(_Gone):
    status: ClassVar[int] = 500


class _Loop(QuietTools):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(307)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Huge(QuietTools):
    def do_POST(self) -> None:
        self.send_response(500)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                self.wfile.write(b"x" * 65_536)
        self.close_connection = True


class _Slow(QuietTools):
    def do_POST(self) -> None:
        time.sleep(30)


#: Sinks that mean no good, beside one that nobody listens at and one that never reads.
BAD: dict[str, type[QuietTools]] = {
    "gone": _Gone, "broken": _Broken, "loop": _Loop, "huge": _Huge, "slow": _Slow,
}  # fmt: skip


@contextlib.contextmanager
def never_reading() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("sinks")
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(serving(_Shop))
        good: dict[str, type[QuietTools]] = {"ops": _Hook, "chat": _Chat}
        urls = {name: stack.enter_context(serving(one)) for name, one in good.items()}
        urls |= {name: stack.enter_context(serving(one)) for name, one in BAD.items()}
        urls["dead"] = f"http://127.0.0.1:{free_port()}"
        urls["stuck"] = f"http://127.0.0.1:{stack.enter_context(never_reading())}"
        process = Process(folder)
        process.environment = {"KEY": KEY, "ANA": "ana-s-key-of-many-words-81"}
        lines = []
        for name, url in urls.items():
            process.environment[f"URL_{name.upper()}"] = f"{url}/hunter2secret"
            kind = "slack" if name == "chat" else "webhook"
            more = ", approver: ana" if name == "ops" else ""
            secret = ", secret: {env: KEY}" if kind == "webhook" else ""
            url_at = f"{{env: URL_{name.upper()}}}"
            lines.append(f"  {name}: {{kind: {kind}, url: {url_at}{secret}{more}}}")
        lines.append("  here: {kind: stdout}")
        process.write(
            f"  shop: {{url: '{shop}'}}\n",
            {"shop.yaml": CATALOGUE, "policy.yaml": POLICY, "refused.yaml": DETECTION},
            "approvals: {hold: 20s}\n"
            "tenants: {default: {agents: {agent: {}}, people: {ana: "
            "{roles: [approver], key: {env: ANA}}}}}\n"
            "sinks:\n" + "\n".join(lines),
        )
        process.start()
        QUIET_S.append(looking(process, 1.0))
        yield process
        process.stop()


def until(found: Callable[[], Any], within_s: float = 20.0) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not come")


def told(hook: type[_Hook], kind: str, what: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
    bodies = [(headers, json.loads(body)) for headers, body in hook.got]
    return [
        (headers, body)
        for headers, body in bodies
        if body.get("kind") == kind and what in json.dumps(body)
    ]


def call(process: Process, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=40)
    try:
        connection.request(method, path, headers={"Content-Length": "0"})
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


def looking(process: Process, for_s: float) -> float:
    """Calls go through all the time; the median of what each took."""
    times = []
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        began = time.perf_counter()
        assert call(process, "GET", "/shop/look") == 200
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def sinks(process: Process, *arguments: str, code: int = 0) -> str:
    said = process.cli("sinks", *arguments, "--data-dir", str(process.folder))
    assert said.returncode == code, (said.stdout, said.stderr)
    assert not any(secret in said.stdout + said.stderr for secret in SECRETS)
    return said.stdout + said.stderr


def test_e7_an_approval_is_asked_for_by_webhook_and_decided_by_the_link_in_it(
    process: Process,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(call, process, "POST", "/shop/buy/tea")
        ((headers, body),) = until(lambda: told(_Hook, "approval.requested", "buys tea"))
        approval = body["approval"]
        assert (approval["tool"], approval["agent"], approval["state"]) == (
            "shop/buy", "agent", "pending",
        )  # fmt: skip
        assert approval["expires_at_us"] > body["at_us"]
        raw = next(raw for _, raw in _Hook.got if b"approval.requested" in raw)
        signed = hmac.digest(
            KEY.encode(), headers["Aegis-Timestamp"].encode() + b"." + raw, "sha256"
        )
        assert headers["Aegis-Signature"] == f"v1={signed.hex()}"
        vote = urllib.request.Request(
            approval["decision_url"],
            json.dumps({"vote": "approve", "reason": "thirsty"}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(vote, timeout=10) as reply:
            assert json.loads(reply.read())["votes"][0]["actor"] == "link:ana"
        assert asked.result(20) == 200
    ((_, body),) = until(lambda: told(_Hook, "approval.decided", "thirsty"))
    assert (body["approval"]["state"], body["approval"]["actor"]) == ("approved", "link:ana")
    (text,) = until(  # what is decided at once is told beside it, and may be heard before
        lambda: [t for _, raw in _Chat.got if "`buys tea`" in (t := json.loads(raw)["text"])]
    )
    assert "|Look at it>" in text
    assert "/console/approvals/" in text and " UTC`" in text, "for people, and until when"
    assert "Decide" not in text, "nobody was named who would decide there"
    line = next(line for line in process.log().splitlines() if '"approval.requested"' in line)
    assert json.loads(line)["approval"]["reason"] == "buys tea"
    assert "decision_url" not in line
    delivered = json.loads(sinks(process, "dead", "--json"))
    assert "approvals/link" not in json.dumps(delivered), "the link lies in no store"


def test_an_alert_its_incident_and_a_containment_are_told(process: Process) -> None:
    began = time.monotonic()
    assert call(process, "DELETE", "/shop/all") == 403
    ((_, body),) = until(lambda: told(_Hook, "alert.opened", "agent was refused"))
    assert time.monotonic() - began < 5
    assert (body["severity"], body["alert"]["detection"]) == ("critical", "refused")
    assert body["alert"]["evidence"]["raised"][0]["receipt_hash"]
    page = f"/console/incidents/{body['alert']['incident_id']}"
    assert body["alert"]["console_url"].endswith(page)
    assert until(lambda: told(_Hook, "incident.opened", body["alert"]["incident_id"]))
    where = ("--data-dir", str(process.folder))
    assert process.cli("contain", "block-tool", "shop/empty", *where).returncode == 0
    ((_, body),) = until(lambda: told(_Hook, "containment.started", "shop/empty"))
    undo = process.cli("containments", "undo", body["containment"]["id"], *where)
    assert undo.returncode == 0, undo.stderr
    ((_, body),) = until(lambda: told(_Hook, "containment.ended", "shop/empty"))
    assert body["containment"]["state"] == "undone"


def test_g11_no_sink_touches_a_call(process: Process) -> None:
    """Every sink that means no good has something to be told while calls go through."""
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(call, process, "POST", f"/shop/buy/b{n}") for n in range(3)]
        until(lambda: len(told(_Hook, "approval.requested", "buys b")) == 3)
        median_s = looking(process, 3.0)
        samples = process.metrics()
        for name in ("dead", "broken", "loop", "huge"):
            key = f'aegis_deliveries_total{{result="retried",sink="{name}"}}'
            assert samples[key] > 0, key
        assert median_s < 3 * QUIET_S[0] + 0.01, "nothing waits for a sink"
        for _, one in told(_Hook, "approval.requested", "buys b"):
            where = ("--data-dir", str(process.folder))
            process.cli("approvals", "reject", one["approval"]["id"], *where)
        assert [one.result(20) for one in waiting] == [403] * 3
    assert len({headers["Aegis-Delivery"] for headers, _ in _Hook.got}) == len(_Hook.got)


def test_the_command_line_tests_a_sink_and_has_the_dead_tried_again(process: Process) -> None:
    assert "delivered: ops has taken" in sinks(process, "test", "ops")
    assert "not delivered: it answered 410" in sinks(process, "test", "gone", code=1)
    assert "no such sink" in sinks(process, "test", "nobody", code=1)
    listed = sinks(process, "list")
    assert "last: it answered 307; a redirect is not followed" in listed
    assert "last: not reached" in listed and "last: it answered 500" in listed
    dead = json.loads(sinks(process, "dead", "gone", "--json"))["deliveries"]
    assert {one["said"] for one in dead} == {"it answered 410"}
    _Gone.status = 200
    one = dead[0]["delivery_id"]
    assert "1 will be tried again" in sinks(process, "retry", one, "--reason", "it is back")
    assert f"{len(dead) - 1} will be tried again" in sinks(process, "retry", "--all", "gone")
    until(lambda: "nothing was given up" in sinks(process, "dead", "gone"))
    assert "It is not given up" in sinks(process, "retry", one, code=1)
    key = 'aegis_deliveries_total{result="delivered",sink="gone"}'
    until(lambda: process.metrics()[key] >= len(dead))
    assert process.metrics()['aegis_deliveries_dead{sink="ops"}'] == 0


def test_g11_kill_9_loses_nothing_that_was_to_be_told(process: Process) -> None:
    port = int(process.environment["URL_DEAD"].split(":")[2].split("/")[0])
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(call, process, "POST", f"/shop/buy/k{n}") for n in range(2)]
        until(lambda: len(told(_Hook, "approval.requested", "buys k")) == 2)
        time.sleep(0.3)  # the dead one has refused by now: nothing is on its way to it
        process.kill()
        for one in asked:
            with contextlib.suppress(Exception):
                one.result(20)

    class Late(_Hook):
        got: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    from http.server import ThreadingHTTPServer

    server = ThreadingHTTPServer(("127.0.0.1", port), Late)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        process.start()
        until(lambda: len(told(Late, "approval.requested", "buys k")) == 2, 60.0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    before = {one["delivery_id"] for _, one in told(_Hook, "approval.requested", "buys k")}
    assert len(before) == 2


def test_g12_no_log_holds_where_a_sink_is_or_what_signs(process: Process) -> None:
    log = process.log()
    assert not [secret for secret in SECRETS if secret in log]
    assert "a delivery was given up" in log, "positive control"
