"""A14, A15, A16 through the whole sidecar: while the record is in doubt nothing is forwarded."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import postgres_server
import pytest
from postgres_pair import named_together, pair
from postgres_proxy import Cut, proxy, through
from running import Process

CATALOGUE = "catalogue: shop\ntools:\n  get: {route: GET /get, mutates: false}\n"
POLICY = "policy: shop\nrules:\n  - {id: reads, effect: allow, tools: shop/*, mutates: false}\n"
CALLERS = 4
BACK_S = 5.0


class Shop(ThreadingHTTPServer):
    """An upstream that notes what reached it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Counter)
        self.served: Counter[str] = Counter()


class _Counter(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Shop)
        self.server.served[self.path.partition("=")[2]] += 1
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def sidecar_on(folder: Path, url: str, shop: Shop) -> Iterator[Process]:
    process = Process(folder, environment={"AEGIS_DB": url}, store="{env: AEGIS_DB}")
    process.write(
        f"  shop: {{url: 'http://127.0.0.1:{shop.server_address[1]}'}}\n",
        {"shop.yaml": CATALOGUE, "policy.yaml": POLICY},
    )
    process.start()
    try:
        yield process
        assert process.stop() == 0
    finally:
        process.kill()


def ask(process: Process, name: str) -> str:
    """One call; "ok", or the code of its refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=30)
    try:
        connection.request("GET", f"/shop/get?n={name}")
        reply = connection.getresponse()
        body = reply.read()
        return "ok" if reply.status == 200 else str(json.loads(body)["code"])
    finally:
        connection.close()


def wait_for(what: Callable[[], bool], patience_s: float = 10) -> float:
    """Waits until it is so; gives how long that took."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < patience_s
        time.sleep(0.02)
    return time.monotonic() - started


async def test_a15_a_failover_under_a_sidecar_refuses_calls_and_is_over_in_seconds(
    tmp_path: Path, shop: Shop
) -> None:
    async with pair() as (primary, standby):
        url = await postgres_server.new_database(primary.dsn())
        both = named_together(url, primary, standby)
        await asyncio.to_thread(_fail_over, tmp_path, both, shop, primary, standby)


def _fail_over(
    folder: Path,
    url: str,
    shop: Shop,
    primary: postgres_server.Cluster,
    standby: postgres_server.Cluster,
) -> None:
    answers: dict[str, str] = {}
    is_over = threading.Event()

    def caller(number: int) -> None:
        count = 0
        while not is_over.is_set():
            name = f"{number}-{count}"
            answers[name] = ask(process, name)
            count += 1
            time.sleep(0.005 if answers[name] == "ok" else 0.05)

    with sidecar_on(folder, url, shop) as process, ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(caller, number) for number in range(CALLERS)]
        try:
            wait_for(lambda: len(answers) > 100)
            primary.stop("immediate")
            wait_for(lambda: "store_unavailable" in answers.values())
            wait_for(lambda: process.metrics()["aegis_store_writable"] == 0)
            assert process.readiness() == 503
            served = sum(shop.served.values())
            time.sleep(0.5)
            assert sum(shop.served.values()) == served, "nothing is forwarded meanwhile"
            standby.promote()
            was_ok = sum(one == "ok" for one in list(answers.values()))
            took_s = wait_for(lambda: sum(one == "ok" for one in list(answers.values())) > was_ok)
            wait_for(lambda: len(answers) > 300)
        finally:
            is_over.set()
        for one in callers:
            one.result(30)
        assert took_s < BACK_S
        wait_for(lambda: process.metrics()["aegis_write_unknown_commits"] == 0)
        wait_for(lambda: process.readiness() == 200)
        metrics = process.metrics()
        wait_for(lambda: process.metrics()['aegis_write_queue_depth{lane="queued"}'] == 0)
        receipts = process.receipts()
    assert metrics["aegis_store_failovers_total"] == 1
    assert metrics["aegis_store_writable"] == 1
    assert metrics["aegis_forwarded_total"] <= metrics["aegis_intents_total"]
    assert set(answers.values()) == {"ok", "store_unavailable"}, Counter(answers.values())
    served_once = {name for name, answer in answers.items() if answer == "ok"}
    assert shop.served == Counter(served_once), "each answered call once, a refused one never"
    kinds = Counter((one["call_id"], one["kind"]) for one in receipts)
    assert max(kinds.values()) == 1
    completed = [one for one in receipts if one.get("outcome") == "completed"]
    assert len(completed) == len(served_once)


@pytest.mark.parametrize("cut", Cut)
def test_a14_a_call_whose_commit_is_unknown_is_not_forwarded(
    tmp_path: Path, shop: Shop, cut: Cut
) -> None:
    with postgres_server.new_cluster() as cluster, proxy(cluster.port) as carrier:
        cluster.initialise()
        cluster.start("fsync=off")
        url = asyncio.run(postgres_server.new_database(cluster.dsn()))
        with sidecar_on(tmp_path, through(url, cluster.port, carrier), shop) as process:
            assert ask(process, "first") == "ok"
            carrier.arm(b"at-stake", cut)
            assert ask(process, "at-stake") == "store_unavailable"
            assert carrier.cuts == 1
            result = "found" if cut is Cut.AFTER else "missing"
            looked_up = f'aegis_store_commit_lookups_total{{result="{result}"}}'
            wait_for(lambda: process.metrics()[looked_up] == 1)
            assert ask(process, "after") == "ok"
            wait_for(lambda: process.metrics()['aegis_write_queue_depth{lane="queued"}'] == 0)
            receipts = process.receipts()
    assert shop.served == Counter(["first", "after"])
    ends = Counter((one["kind"], one["outcome"]) for one in receipts if one["kind"] != "intent")
    if cut is Cut.AFTER:  # its intent stands there, and how it ended
        assert ends == {("outcome", "completed"): 2, ("outcome", "not_forwarded"): 1}
    else:  # there is none: the refusal is the call's only receipt
        assert ends == {("outcome", "completed"): 2, ("refusal", "store_unavailable"): 1}


def test_a16_a_rival_that_holds_the_chain_s_head_makes_calls_refused_in_time(
    tmp_path: Path, shop: Shop
) -> None:
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start("fsync=off")
        url = asyncio.run(postgres_server.new_database(cluster.dsn()))
        with sidecar_on(tmp_path, url, shop) as process:
            assert ask(process, "first") == "ok"
            asyncio.run(_held(cluster.dsn(database=url.rpartition("/")[2]), process))
            wait_for(lambda: ask(process, "after") == "ok")
    assert "refused" not in shop.served
    assert shop.served["first"] == shop.served["after"] == 1


async def _held(dsn: str, process: Process) -> None:
    """A call while somebody, idle in a transaction, holds the head; by a role of its own."""
    rival = await asyncpg.connect(dsn)
    async with rival.transaction():
        await rival.execute("SELECT 1 FROM chain_head FOR UPDATE")
        started = time.monotonic()
        answer = await asyncio.to_thread(ask, process, "refused")
        assert answer == "store_unavailable"
        # limits.queue_wait is 2 s: for the intent, and again for the receipt of the refusal.
        assert 1 < time.monotonic() - started < 6
    await rival.close()
