"""Moving a store under a running sidecar: it stands still behind a fence, and nothing is lost."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from move_store import assert_moved, contents, fill, finished, move, stopped_at
from running import Process
from tool_server import QuietTools, serving

from storage.marks import FENCED, MOVED

CATALOGUE = (
    "catalogue: shop\ntools:\n  get: {route: GET /get, mutates: false}\n  buy: POST /buy\n"
    "  slow: {route: GET /slow, mutates: false}\n"
)
POLICY = (
    "policy: shop\nrules:\n  - {id: reads, effect: allow, tools: shop/*, mutates: false}\n"
    '  - {id: no-buying, effect: deny, tools: shop/buy, reason: "nothing is bought here"}\n'
)
#: The longest that a slow call waits to be let go.
SLOW_S = 60.0
TOOL_CALL = {
    "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "add", "arguments": {}},
}  # fmt: skip


class _Shop(QuietTools):
    slow_begun = 0
    let_go = threading.Event()

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            _Shop.slow_begun += 1
            _Shop.let_go.wait(SLOW_S)
        self.say_ok()


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with serving(_Shop) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_dsn() -> Iterator[str]:
    with postgres_server.server() as dsn:
        yield dsn


def sidecar_on(folder: Path, shop: str, url: str = "") -> Process:
    """A sidecar that is not started yet, on a file in its folder or on the server of `url`."""
    folder.mkdir()
    store = f"sqlite:///{folder}/aegis.db"
    process = Process(folder, store=store)
    if url:
        process = Process(folder, environment={"AEGIS_DB": url}, store="{env: AEGIS_DB}")
    upstreams = f"  shop: {{url: '{shop}'}}\n  files: {{url: '{shop}', kind: mcp}}\n"
    process.write(upstreams, {"shop.yaml": CATALOGUE, "policy.yaml": POLICY})
    return process


@pytest.fixture
def sidecar(tmp_path: Path, shop: str) -> Iterator[Process]:
    process = sidecar_on(tmp_path / "one", shop).start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, shop: str) -> Iterator[Process]:
    """A sidecar whose store is not moved by any of its tests."""
    process = sidecar_on(tmp_path_factory.mktemp("lasting") / "one", shop).start()
    yield process
    process.kill()


def ask(
    process: Process, method: str, path: str, body: dict[str, Any] | None = None
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """One call: status, headers, and what a JSON answer holds."""
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=20)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, headers if sent else {"Content-Length": "0"})
        reply = connection.getresponse()
        text = reply.read()
        said = json.loads(text) if text.startswith(b"{") else {}
        return reply.status, dict(reply.getheaders()), said
    finally:
        connection.close()


def code_of(process: Process, method: str = "GET", path: str = "/shop/get") -> str:
    """The code of a refused call; "" for one that came through."""
    status, _, said = ask(process, method, path)
    return "" if status == 200 else str(said["code"])


def target_of(postgres_dsn: str) -> str:
    return asyncio.run(postgres_server.new_database(postgres_dsn))


def settled(url: str, receipts: int) -> dict[str, list[tuple[object, ...]]]:
    """What the store holds when so many receipts are in it: an outcome comes after its answer."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if len((found := asyncio.run(contents(url)))["receipts"]) >= receipts:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{receipts} receipts never came")


def assert_moved_as_left(
    source: str, before: dict[str, list[tuple[object, ...]]], target: str, told: list[str]
) -> None:
    """What the source held `before`, then what is told of its fence, and that all was moved."""
    left = asyncio.run(contents(source)) | {"store_state": before["store_state"]}
    fresh = [row for row in left["receipts"] if row not in before["receipts"]]
    assert [row[12] for row in sorted(fresh, key=lambda row: int(str(row[1])))] == told
    assert {str(row[21]).partition(":")[0] for row in fresh} == {"socket"}
    assert not [row for row in before["receipts"] if row not in left["receipts"]]
    asyncio.run(assert_moved(left, target))


def test_f6_a_fenced_sidecar_refuses_calls_serves_reads_and_is_moved(
    sidecar: Process, tmp_path: Path, postgres_dsn: str, shop: str
) -> None:
    """The mover is killed half-way: the fence stays; started again, it goes on to the end."""
    for _ in range(5):
        assert code_of(sidecar) == ""
    before = settled(sidecar.store, 10)
    target = target_of(postgres_dsn)
    with stopped_at("facts", 1, sidecar.store, target, "--fence") as mover:
        mover.kill()

    status, headers, said = ask(sidecar, "GET", "/shop/get")
    assert (status, said["code"], headers["Retry-After"]) == (503, "store_fenced", "10")
    assert code_of(sidecar, "POST", "/shop/buy") == "store_fenced", "not even judged"
    status, _, said = ask(sidecar, "POST", "/files/mcp", TOOL_CALL)
    assert (status, said["id"], said["error"]["data"]["code"]) == (503, 7, "store_fenced")
    assert sidecar.readiness() == 503
    samples = sidecar.metrics()
    assert samples["aegis_store_fenced"] == 1
    assert samples['aegis_refusals_total{code="store_fenced"}'] == 3
    assert samples['aegis_denied_fail_closed_total{reason="store_fenced"}'] == 3
    assert samples["aegis_unrecorded_refusals_total"] == 3
    words = sidecar.cli("status", "--config", str(sidecar.config)).stdout
    assert "NOT READY: fenced" in words
    words = sidecar.cli("store", "status", "--config", str(sidecar.config)).stdout
    assert "`store unfence` lifts the fence" in words
    assert len(sidecar.receipts()) == 11, "ten of calls, and that it is fenced"
    fenced = asyncio.run(contents(sidecar.store))
    marks = [row[0] for row in fenced["store_state"] if row not in before["store_state"]]
    assert marks == [FENCED]
    grown = {table: [] for table in ("store_state", "receipts", "call_facts", "chain_head")}
    assert fenced | grown == before | grown

    unflagged = move(sidecar.store, target)
    assert (unflagged.returncode, "--fence" in unflagged.stderr) == (1, True)
    elsewhere = move(sidecar.store, target_of(postgres_dsn), "--fence")
    assert "fence_for_another" in elsewhere.stderr
    assert code_of(sidecar) == "store_fenced"
    done = move(sidecar.store, target, "--fence")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "restart the sidecar" in done.stdout
    assert_moved_as_left(sidecar.store, before, target, ["store.fence"])

    assert code_of(sidecar) == "store_moved"
    unfence = sidecar.cli("store", "unfence", "--config", str(sidecar.config))
    assert (unfence.returncode, "store_moved" in unfence.stderr) == (1, True)
    assert sidecar.stop() == 0
    refused = sidecar.cli("serve", "--config", str(sidecar.config))
    assert (refused.returncode, "[store_moved]" in refused.stderr) == (1, True)
    successor = sidecar_on(tmp_path / "successor", shop, target).start()
    try:
        assert code_of(successor) == ""
        assert len(successor.receipts()) == 15, "that it started too"
    finally:
        successor.kill()


def test_a_fence_waits_for_calls_in_flight_and_no_longer_than_told(
    sidecar: Process, postgres_dsn: str
) -> None:
    seen: list[str] = []

    def call_begun() -> threading.Thread:
        """A call that is at the upstream."""
        begun = _Shop.slow_begun
        _Shop.let_go.clear()
        thread = threading.Thread(target=lambda: seen.append(code_of(sidecar, "GET", "/shop/slow")))
        thread.start()
        while _Shop.slow_begun == begun:
            time.sleep(0.01)
        return thread

    target = target_of(postgres_dsn)
    thread = call_begun()
    hasty = move(sidecar.store, target, "--fence", "--fence-wait", "0.1")
    assert (hasty.returncode, "fence_calls_open" in hasty.stderr) == (1, True), hasty.stderr
    assert "1 call in flight" in hasty.stderr
    assert code_of(sidecar) == "", "not fenced"
    _Shop.let_go.set()
    thread.join()
    thread = call_begun()
    threading.Timer(1.5, _Shop.let_go.set).start()
    patient = move(sidecar.store, target, "--fence")
    thread.join()
    assert patient.returncode == 0, patient.stderr
    assert seen == ["", ""]
    kinds = [row[2] for row in asyncio.run(contents(target))["receipts"]]
    assert (kinds.count("intent"), kinds.count("outcome")) == (3, 3)


def test_a_move_that_fails_in_order_lifts_its_fence(lasting: Process, tmp_path: Path) -> None:
    assert code_of(lasting) == ""
    full = f"sqlite:///{tmp_path}/full.db"
    asyncio.run(fill(full, 3, 1))
    done = move(lasting.store, full, "--fence")
    assert (done.returncode, "is not empty" in done.stderr) == (1, True)
    assert "The fence is lifted" in done.stderr
    assert code_of(lasting) == ""
    assert lasting.metrics()["aegis_store_fenced"] == 0


def test_a_fence_lifted_under_a_mover_stops_the_move(lasting: Process, tmp_path: Path) -> None:
    """Calls were recorded since: what was copied is not the store any more."""
    assert code_of(lasting) == ""
    target = f"sqlite:///{tmp_path}/target.db"
    with stopped_at("receipts", 1, lasting.store, target, "--fence") as mover:
        lifted = lasting.cli("store", "unfence", "--config", str(lasting.config))
        assert (lifted.returncode, code_of(lasting)) == (0, "")
        code, _, errors = finished(mover)
    assert code == 1 and ("[move_refused]" in errors or "[move_differs]" in errors), errors
    with stopped_at("compared", 1, lasting.store, f"{target}2", "--fence") as mover:
        assert lasting.cli("store", "unfence", "--config", str(lasting.config)).returncode == 0
        assert code_of(lasting) == "", "recorded after the last look of the mover"
        code, _, errors = finished(mover)
    assert (code, "fence_gone" in errors) == (1, True), errors
    assert MOVED not in str(asyncio.run(contents(lasting.store))["store_state"])


def test_a15_a_sidecar_killed_behind_its_fence_does_not_take_up_work_by_itself(
    sidecar: Process, postgres_dsn: str
) -> None:
    assert code_of(sidecar) == ""
    target = target_of(postgres_dsn)
    with stopped_at("receipts", 1, sidecar.store, target, "--fence") as mover:
        sidecar.kill()
        mover.kill()
    refused = sidecar.cli("serve", "--config", str(sidecar.config))
    assert (refused.returncode, "[store_fenced]" in refused.stderr) == (1, True), refused.stderr
    assert "store unfence" in refused.stderr
    lifted = sidecar.cli("store", "unfence", "--config", str(sidecar.config))
    assert (lifted.returncode, "its sidecar may start" in lifted.stdout) == (0, True)
    sidecar.start()
    assert code_of(sidecar) == "", "lifted, it works again"
    with stopped_at("receipts", 1, sidecar.store, target_of(postgres_dsn), "--fence") as mover:
        sidecar.kill()
        mover.kill()
        # Nobody holds the store any more, and the mark says for which target it was left.
        other = move(sidecar.store, target_of(postgres_dsn))
        assert (other.returncode, "is fenced for a move to" in other.stderr) == (1, True)
        done = move(sidecar.store, mover.args[mover.args.index("--to") + 1])
    assert done.returncode == 0, done.stderr


def test_a_server_is_fenced_only_where_no_other_node_lives(
    tmp_path: Path, postgres_dsn: str, shop: str
) -> None:
    url = target_of(postgres_dsn)
    one, two = (sidecar_on(tmp_path / name, shop, url) for name in ("one", "two"))
    target = f"sqlite:///{tmp_path}/target.db"
    try:
        one.start()
        two.start()
        assert code_of(one) == code_of(two) == ""
        done = move(url, target, "--fence", "--data-dir", str(one.folder))
        assert (done.returncode, f":{two.data_port}" in done.stderr) == (1, True), done.stderr
        assert f":{one.data_port}" not in done.stderr
        assert code_of(one) == code_of(two) == "", "lifted"
        two.stop()
        before = settled(url, 10)
        done = move(url, target, "--fence", "--data-dir", str(one.folder))
        assert done.returncode == 0, done.stderr
        assert code_of(one) == "store_moved"
        assert_moved_as_left(url, before, target, ["store.fence"])
        late = two.cli("serve", "--config", str(two.config))
        assert (late.returncode, "[store_moved]" in late.stderr) == (1, True), late.stderr
    finally:
        one.kill()
        two.kill()


def test_the_sidecar_of_another_store_is_found_out(
    lasting: Process, tmp_path: Path, shop: str
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    asyncio.run(fill(other, 3, 1))
    done = move(other, f"sqlite:///{tmp_path}/t.db", "--fence", "--data-dir", str(lasting.folder))
    assert (done.returncode, "works on another store" in done.stderr) == (1, True), done.stderr
    assert code_of(lasting) == ""


def test_a3_where_the_mark_cannot_be_set_the_fence_stays_and_the_move_goes_on_later(
    tmp_path: Path, postgres_dsn: str, shop: str
) -> None:
    """The source's disk is full at the last step: what was promised stays where it is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(options, capture_output=True).returncode:
        pytest.skip("cannot mount")
    process = sidecar_on(disk / "one", shop)
    try:
        process.start()
        assert code_of(process) == ""
        before = settled(process.store, 2)
        target = target_of(postgres_dsn)
        with stopped_at("compared", 1, process.store, target, "--fence") as mover:
            ballast = disk / "ballast"
            ballast.write_bytes(b"\0" * shutil.disk_usage(disk).free)
            code, _, errors = finished(mover)
        assert (code, "[store_full]" in errors) == (1, True), errors
        assert "The fence stays" in errors, "its mark cannot be taken away on a full disk either"
        assert code_of(process) == "store_fenced"
        ballast.unlink()
        assert move(process.store, target, "--fence").returncode == 0
        assert_moved_as_left(process.store, before, target, ["store.fence"])
    finally:
        process.kill()
        subprocess.run(["umount", "-l", str(disk)], check=True)
