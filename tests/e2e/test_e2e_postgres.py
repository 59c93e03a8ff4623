"""The sidecar on a real PostgreSQL: a connection string is all that changes."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from running import Process
from tool_server import QuietTools, serving

CATALOGUE = "catalogue: shop\ntools:\n  get: {route: GET /get, mutates: false}\n  buy: POST /buy\n"
POLICY = (
    "policy: shop\nrules:\n  - {id: reads, effect: allow, tools: shop/*, mutates: false}\n"
    '  - {id: no-buying, effect: deny, tools: shop/buy, reason: "nothing is bought here"}\n'
)


class _Shop(QuietTools):
    served = 0

    def do_GET(self) -> None:
        type(self).served += 1
        self.say_ok()


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with serving(_Shop) as url:
        yield url


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres_server.Cluster]:
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start()
        yield cluster


def sidecar_on(folder: Path, url: str, shop: str) -> Process:
    folder.mkdir()
    process = Process(folder, environment={"AEGIS_DB": url}, store="{env: AEGIS_DB}")
    process.write(f"  shop: {{url: '{shop}'}}\n", {"shop.yaml": CATALOGUE, "policy.yaml": POLICY})
    return process


def ask(process: Process, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=20)
    try:
        connection.request(method, path, headers={"Content-Length": "0"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_two_sidecars_share_one_chain(
    tmp_path: Path, cluster: postgres_server.Cluster, shop: str
) -> None:
    url = asyncio.run(postgres_server.new_database(cluster.dsn()))
    one, other = (sidecar_on(tmp_path / name, url, shop) for name in ("one", "other"))
    one.start()
    other.start()
    try:
        for _ in range(10):
            assert ask(one, "GET", "/shop/get") == (200, b"ok")
            assert ask(other, "GET", "/shop/get") == (200, b"ok")
        status, body = ask(other, "POST", "/shop/buy")
        assert (status, json.loads(body)["code"]) == (403, "policy_deny")
        shown = one.cli("config", "show", "--config", str(one.config)).stdout
        assert "***" in shown
        assert postgres_server.PASSWORD not in shown + one.log() + other.log()
    finally:
        assert one.stop() == 0
        assert other.stop() == 0
    lines = one.cli("receipts", "export", "--tenant", "default", "--store", url).stdout
    kinds = [json.loads(line)["kind"] for line in lines.splitlines()]
    assert (kinds.count("intent"), kinds.count("outcome"), kinds.count("refusal")) == (20, 20, 1)
    path = tmp_path / "receipts.jsonl"
    path.write_text(lines)
    assert one.cli("receipts", "verify", str(path)).returncode == 0


def test_a11_a_server_that_goes_away_refuses_calls_and_comes_back(
    tmp_path: Path, cluster: postgres_server.Cluster, shop: str
) -> None:
    url = asyncio.run(postgres_server.new_database(cluster.dsn()))
    process = sidecar_on(tmp_path / "one", url, shop)
    process.start()
    try:
        assert ask(process, "GET", "/shop/get")[0] == 200
        served = _Shop.served
        cluster.stop("immediate")
        status, body = ask(process, "GET", "/shop/get")
        assert (status, json.loads(body)["code"]) == (503, "store_unavailable")
        assert _Shop.served == served
        assert process.readiness() == 503
        cluster.start()
        until = time.monotonic() + 20
        while ask(process, "GET", "/shop/get")[0] != 200 and time.monotonic() < until:
            time.sleep(0.1)
        assert ask(process, "GET", "/shop/get")[0] == 200
        assert process.readiness() == 200
    finally:
        assert process.stop() == 0


@pytest.mark.parametrize("said", ["store_unavailable", "unsupported_store"])
def test_a_server_that_cannot_be_used_stops_the_start_with_the_reason(
    tmp_path: Path, cluster: postgres_server.Cluster, shop: str, said: str
) -> None:
    url = asyncio.run(postgres_server.new_database(cluster.dsn()))
    if said == "store_unavailable":
        url = url.replace(f":{cluster.port}/", ":1/")
    else:
        url = url.replace("/aegis_", "/nothing_")
    process = sidecar_on(tmp_path / "one", url, shop)
    done = process.cli("serve", "--config", str(process.config))
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert postgres_server.PASSWORD not in done.stdout + done.stderr
