"""Budgets over real sockets: many calls at once never overshoot, on either engine, across restarts
and between nodes; what is over is refused with 429, a reason and a time, and stands on record.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import postgres_server
import pytest
from running import Process, free_port

CATALOGUE = """\
catalogue: pay
tools:
  refund: {route: "POST /refunds", args: {amount: int, customer: string}}
  look: {route: GET /look, mutates: false}
"""
POLICY = """\
policy: pay
rules:
  - {id: all, effect: allow, tools: pay/*}
  - id: daily
    tools: pay/refund
    limits: {per: agent, sum: args.amount, max: 1000, window: 24h}
    reason: "refund budget: {limit.used} of {limit.max} used, {args.amount} asked"
  - id: pace
    tools: pay/look
    limits: {per: tenant, max: 5, window: 1h, shared: true}
"""


class Sums(BaseHTTPRequestHandler):
    """A tool that moves money: remembers what it was told to."""

    protocol_version = "HTTP/1.1"
    taken: list[int] = []  # noqa: RUF012 - one server a test, emptied by it
    guard = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.guard:
            self.taken.append(body["amount"])
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    """Has room for all who connect at once: a connection it drops would come a second later."""

    request_queue_size = 256
    daemon_threads = True


@pytest.fixture
def upstream() -> Iterator[str]:
    Sums.taken.clear()
    port = free_port()
    server = Server(("127.0.0.1", port), Sums)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    thread.join()
    server.server_close()


def sidecar(folder: Path, upstream: str, store: str, rest: str = "") -> Process:
    folder.mkdir(exist_ok=True)
    running = Process(folder, environment={"AEGIS_DB": store}, store="{env: AEGIS_DB}")
    more = "limits: {per_address: 1000}\n" + rest
    running.write(
        f"  pay: {{url: '{upstream}', limits: {{calls: 1000}}}}\n",
        {"pay.yaml": CATALOGUE, "policy.yaml": POLICY},
        more,
    )
    return running


async def refunds(urls: list[str], amounts: list[int]) -> list[tuple[int, str, dict[str, Any]]]:
    """All at once: status, Retry-After, body."""
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(number: int, amount: int) -> tuple[int, str, dict[str, Any]]:
            url = f"{urls[number % len(urls)]}/pay/refunds"
            try:
                async with session.post(url, json={"amount": amount, "customer": "c7"}) as reply:
                    retry_after = reply.headers.get("Retry-After", "")
                    return reply.status, retry_after, await reply.json(content_type=None)
            except aiohttp.ClientError:
                return 0, "", {}

        return await asyncio.gather(*(one(n, amount) for n, amount in enumerate(amounts)))


def store_for(engine: str, folder: Path, postgres_dsn: str) -> str:
    if engine == "sqlite":
        return f"sqlite:///{folder}/aegis.db"
    return asyncio.run(postgres_server.new_database(postgres_dsn))


@pytest.fixture(scope="module")
def postgres_dsn() -> Iterator[str]:
    with postgres_server.server() as dsn:
        yield dsn


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_d9_five_hundred_refunds_at_once_never_overshoot_and_a_restart_forgets_none(
    upstream: str, tmp_path: Path, postgres_dsn: str, engine: str
) -> None:
    """On a server through two sidecars, which share the budget."""
    store = store_for(engine, tmp_path, postgres_dsn)
    nodes = [sidecar(tmp_path / "one", upstream, store)]
    if engine == "postgres":
        nodes.append(sidecar(tmp_path / "two", upstream, store))
    for node in nodes:
        node.start()
    try:
        answers = asyncio.run(refunds([node.url for node in nodes], [7] * 500))
        said = Counter(status for status, _, _ in answers)
        assert said == {200: 142, 429: 358}, "142 x 7 = 994 of 1000"
        assert sum(Sums.taken) == 994
        _, retry_after, body = next(one for one in answers if one[0] == 429)
        assert body["code"] == "rate_limited" and body["detail"].startswith("refund budget: ")
        assert "of 1000 used, 7 asked" in body["detail"]
        assert 86_000 < int(retry_after) <= 86_400 + 1_350
        for node in nodes:
            # A node that was killed on a server is waited for until its lease is over.
            _ = node.kill() if engine == "sqlite" else node.stop()
            node.start()
        last = asyncio.run(refunds([nodes[0].url], [7, 6]))
        assert [status for status, _, _ in last] == [429, 200], "6 more make 1000"
        metrics = nodes[0].metrics()
        assert metrics['aegis_decisions_total{effect="deny",mode="enforce"}'] == 1
        assert metrics['aegis_decisions_total{effect="allow",mode="enforce"}'] == 1
        assert metrics['aegis_refusals_total{code="rate_limited"}'] == 1
        receipts = nodes[0].receipts()
        kinds = Counter(str(row["kind"]) for row in receipts)
        assert (kinds["intent"], kinds["refusal"]) == (143, 359)
        refusal = next(row for row in receipts if row["kind"] == "refusal")
        assert (refusal["rule_id"], refusal["outcome"]) == ("pay/daily", "rate_limited")
        assert refusal["http_status"] == 429
    finally:
        for node in nodes:
            node.stop()


def test_d9_a_kill_in_the_middle_never_frees_what_was_taken(upstream: str, tmp_path: Path) -> None:
    """What the tool was told is never more than what the budget says it was."""
    node = sidecar(tmp_path / "one", upstream, "sqlite:///aegis.db").start()
    try:
        for _ in range(2):
            killer = threading.Timer(0.15, node.kill)
            killer.start()
            asyncio.run(refunds([node.url], [3] * 130))
            killer.join()
            node.start()
        asyncio.run(refunds([node.url], [3] * 400))
        taken = 3 * sum(row["kind"] == "intent" for row in node.receipts())
        assert 997 < taken <= 1000 and sum(Sums.taken) <= taken
        assert sum(Sums.taken) > 500, "positive control: most of it went ahead"
    finally:
        node.stop()


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_shared_rate_is_one_for_all_nodes(
    upstream: str, tmp_path: Path, postgres_dsn: str, engine: str
) -> None:
    store = store_for(engine, tmp_path, postgres_dsn)
    nodes = [sidecar(tmp_path / "one", upstream, store)]
    if engine == "postgres":
        nodes.append(sidecar(tmp_path / "two", upstream, store))

    async def looks() -> list[int]:
        async with aiohttp.ClientSession() as session:
            seen = []
            for number in range(8):
                async with session.get(f"{nodes[number % len(nodes)].url}/pay/look") as reply:
                    seen.append(reply.status)
                    if reply.status == 429:
                        assert 0 < int(reply.headers["Retry-After"]) <= 720
            return seen

    for node in nodes:
        node.start()
    try:
        assert asyncio.run(looks()) == [200] * 5 + [429] * 3
    finally:
        for node in nodes:
            node.stop()


def test_where_nothing_is_refused_a_budget_only_says_so(upstream: str, tmp_path: Path) -> None:
    node = sidecar(tmp_path / "one", upstream, "sqlite:///aegis.db", "default: observe\n").start()
    try:
        answers = asyncio.run(refunds([node.url], [400, 400, 400]))
        assert [status for status, _, _ in answers] == [200] * 3 and sum(Sums.taken) == 1200
        until = time.monotonic() + 5
        while node.metrics()['aegis_outcomes_total{outcome="completed"}'] < 3:
            assert time.monotonic() < until
            time.sleep(0.02)
        key = 'aegis_decisions_total{effect="deny",mode="observe"}'
        assert node.metrics()[key] == 1
        rows = node.receipts()
        assert [row["kind"] for row in rows if row["mode"] == "observe"] == ["intent"]
        assert sum(row["kind"] == "outcome" for row in rows) == 3
    finally:
        node.stop()
