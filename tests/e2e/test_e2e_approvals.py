"""Approvals as users meet them: the command line, restarts, two sidecars, real MCP clients."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import anyio
import mcp_fixture
import postgres_server
import pytest
from mcp.client import Client
from running import Process, free_port
from tool_server import QuietTools, serving
from wrapping import Wrap, cli, text_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CATALOGUE = "catalogue: shop\ntools:\n  buy: POST /buy/{what}\n  look: GET /look\n"
POLICY = """policy: shop
rules:
  - {id: all, effect: allow, tools: shop/*}
  - {id: asks, effect: require_approval, tools: shop/buy, reason: "buys {args.what}"}
"""
#: Median of the time from a yes to the call's answer.
FORWARD_S_MAX = 0.25


class _Shop(QuietTools):
    bought: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).bought.append(self.path)
        self.say_ok()


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with serving(_Shop) as url:
        yield url


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        cluster.start()
        yield asyncio.run(postgres_server.new_database(cluster.dsn()))


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def sidecar_on(folder: Path, shop: str, hold: str = "20s", store: str = "") -> Process:
    folder.mkdir()
    process = Process(folder)
    if store:
        process.environment["AEGIS_DB"] = store
        process.store = "{env: AEGIS_DB}"
    process.write(
        f"  shop: {{url: '{shop}'}}\n",
        {"shop.yaml": CATALOGUE, "policy.yaml": POLICY},
        f"approvals: {{hold: {hold}}}",
    )
    return process


def buy(process: Process, what: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", process.data_port, timeout=40)
    try:
        connection.request("POST", f"/shop/buy/{what}", headers={"Content-Length": "0"})
        reply = connection.getresponse()
        body = reply.read()
        return reply.status, json.loads(body) if reply.status != 200 else {}
    finally:
        connection.close()


def approvals(process: Process, *arguments: str) -> Any:
    said = process.cli("approvals", *arguments, "--data-dir", str(process.folder), "--json")
    assert said.returncode == 0, said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]


def waiting(process: Process, count: int = 1) -> list[dict[str, Any]]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = [one for one in approvals(process, "list") if one["state"] == "pending"]
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise AssertionError("nothing waits")


def test_the_command_line_shows_approves_and_rejects(
    tmp_path: Path, shop: str, pool: ThreadPoolExecutor
) -> None:
    process = sidecar_on(tmp_path / "one", shop).start()
    where = ("--data-dir", str(process.folder))
    try:
        nothing = process.cli("approvals", "list", *where)
        assert (nothing.returncode, nothing.stdout) == (0, "nothing waits\n")
        call = pool.submit(buy, process, "tea%E2%80%AEgnp")
        (one,) = waiting(process)
        shown = process.cli("approvals", "show", one["approval_id"], *where).stdout
        assert "\\u202e" in shown and "\u202e" not in shown, "E6: nothing is invisible"
        assert "shop/buy" in shown and "buys tea" in shown and one["action_sha256"] in shown
        yes = process.cli("approvals", "approve", one["approval_id"], "--reason", "fine", *where)
        assert yes.returncode == 0 and "approved" in yes.stdout and "socket:" in yes.stdout
        assert call.result(20) == (200, {})
        late = process.cli("approvals", "reject", one["approval_id"], *where)
        assert late.returncode == 1 and "the yes is spent" in late.stderr
        unknown = process.cli("approvals", "show", "0" * 32, *where)
        assert unknown.returncode == 1 and "no such approval" in unknown.stderr
        call = pool.submit(buy, process, "wine")
        (one,) = waiting(process)
        assert process.cli("approvals", "reject", one["approval_id"], *where).returncode == 0
        status, said = call.result(20)
        assert (status, said["code"]) == (403, "approval_rejected")
        every = approvals(process, "list", "--all")
        assert [one["state"] for one in every] == ["rejected", "spent"]
        replayed = process.cli(
            "policy", "replay", "--config", str(process.config),
            "--with", str(process.folder / "policies"),
        )  # fmt: skip
        assert replayed.returncode == 0 and "0 different" in replayed.stdout, replayed.stdout
        explained = process.cli(
            "policy", "explain", "--id", said["call_id"], "--config", str(process.config)
        )
        assert explained.returncode == 0 and "require_approval" in explained.stdout
    finally:
        process.stop()
    kinds = {receipt["kind"] for receipt in process.receipts()}
    assert kinds >= {"approval", "intent", "refusal", "outcome"}


def test_e3_a_yes_given_after_a_restart_is_spent_once_by_the_next_identical_call(
    tmp_path: Path, shop: str, pool: ThreadPoolExecutor
) -> None:
    process = sidecar_on(tmp_path / "one", shop).start()
    before = len(_Shop.bought)
    try:
        call = pool.submit(buy, process, "milk")
        (one,) = waiting(process)
        process.stop()
        status, said = call.result(20)
        assert (status, said["code"]) == (503, "shutting_down"), "never left to time out"
        process.start()
        assert [each["approval_id"] for each in waiting(process)] == [one["approval_id"]]
        approvals(process, "approve", one["approval_id"])
        assert len(_Shop.bought) == before, "nobody is connected"
        process.kill()
        process.start()
        assert buy(process, "milk") == (200, {})
        again: Future[Any] = pool.submit(buy, process, "milk")
        (fresh,) = waiting(process)
        assert fresh["approval_id"] != one["approval_id"]
        approvals(process, "reject", fresh["approval_id"])
        again.result(20)
        assert len(_Shop.bought) == before + 1
    finally:
        process.stop()


def test_a_yes_given_at_one_sidecar_wakes_the_call_held_at_another(
    tmp_path: Path, shop: str, database: str, pool: ThreadPoolExecutor
) -> None:
    one, two = (sidecar_on(tmp_path / name, shop, store=database) for name in ("one", "two"))
    took: list[float] = []
    try:
        one.start()
        two.start()
        for number in range(5):
            call = pool.submit(timed_buy, two, f"book-{number}")
            (asked,) = waiting(one)
            approvals(one, "approve", asked["approval_id"])
            (row,) = approvals(one, "show", asked["approval_id"])
            status, answered_at = call.result(20)
            assert status == 200
            took.append(answered_at - row["votes"][0]["at_us"] / 1e6)
        racing = [pool.submit(buy, (one, two)[n % 2], "gold") for n in range(16)]
        (asked,) = waiting(two)
        time.sleep(0.3)
        approvals(two, "approve", asked["approval_id"])
        statuses = [call.result(30)[0] for call in racing]
        assert statuses.count(200) == 1 and statuses.count(403) == 15, "E2: exactly one"
    finally:
        one.stop()
        two.stop()
    assert _Shop.bought.count("/buy/gold") == 1
    assert statistics.median(took) <= FORWARD_S_MAX, took


def timed_buy(process: Process, what: str) -> tuple[int, float]:
    status, _ = buy(process, what)
    return status, time.time()


TOOLS = "catalogue: tools\ntools: {add: {args: {a: int, b: int}}}\n"
ASKS = "policy: p\nrules:\n  - {id: asks, effect: require_approval, tools: tools/add}\n"


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_official_client_sees_progress_and_then_its_result(
    tmp_path: Path, mode: str
) -> None:
    heard: list[str | None] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with mcp_fixture.serving(free_port()) as direct:
        sidecar = Process(tmp_path)
        sidecar.write(f"  tools: {{url: '{direct}', kind: mcp}}", {"t.yaml": TOOLS, "p.yaml": ASKS})
        await asyncio.to_thread(sidecar.start)
        try:
            async with Client(f"{sidecar.url}/tools/mcp", mode=mode) as client:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(decide, sidecar, "approve")
                    answer = await client.call_tool(
                        "add", {"a": 20, "b": 22}, progress_callback=progress
                    )
                assert not answer.is_error and answer.structured_content == {"result": 42}
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(decide, sidecar, "reject")
                    answer = await client.call_tool("add", {"a": 20, "b": 22})
                assert answer.is_error and "approval_rejected" in str(answer.content)
        finally:
            await asyncio.to_thread(sidecar.stop)
    assert heard and "waits for an approval" in str(heard[0])


async def decide(sidecar: Process, verb: str) -> None:
    (one,) = await asyncio.to_thread(waiting, sidecar)
    await asyncio.to_thread(approvals, sidecar, verb, one["approval_id"])


WRAP_TOOLS = "catalogue: files\ntools: {echo: {mutates: false}, keep: {}}\n"
WRAP_RULES = """policy: start
rules:
  - {id: reads, effect: allow, tools: files/*, mutates: false}
  - {id: asks, effect: require_approval, tools: files/keep}
  - {id: asks-to-echo, effect: require_approval, tools: files/echo, when: has(args.ask)}
"""


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="aw-") as folder:
        yield Path(folder)


def test_a_wrapped_server_waits_too_and_other_calls_go_on(short_path: Path) -> None:
    policies = short_path / "share" / "aegis-sidecar" / "files" / "policies"
    policies.mkdir(parents=True)
    (policies / "tools.yaml").write_text(WRAP_TOOLS)
    (policies / "start.yaml").write_text(WRAP_RULES)
    wrap = Wrap(short_path)
    where = ("--data-dir", str(wrap.home), "--json")
    try:
        wrap.say(
            {
                "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "echo", "arguments": {"ask": 1}, "_meta": {"progressToken": 7}},
            }
        )  # fmt: skip
        told = wrap.hear()
        assert told["method"] == "notifications/progress" and told["params"]["progressToken"] == 7
        assert text_of(wrap.asked(2, "echo", a=1)) == '{"a": 1}', "others go on meanwhile"
        wrap.call(3, "keep")
        ids: dict[str, str] = {}
        until = time.monotonic() + 20  # the call is on its way still when the list is asked for
        while set(ids) != {"files/echo", "files/keep"}:
            assert time.monotonic() < until, ids
            listed = cli("approvals", "list", *where)
            found = [json.loads(line) for line in listed.stdout.splitlines()]
            ids = {one["tool"]: one["approval_id"] for one in found}
        assert "approval_url" not in json.dumps(found)
        cancel = {"requestId": 3}
        wrap.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})
        assert cli("approvals", "approve", ids["files/keep"], *where).returncode == 0
        assert cli("approvals", "approve", ids["files/echo"], *where).returncode == 0
        heard = wrap.hear()
        while heard.get("method") == "notifications/progress":
            heard = wrap.hear()
        assert heard["id"] == 1 and text_of(heard) == '{"ask": 1}'
        assert wrap.end() == 0
    finally:
        wrap.kill()
    names = [line["params"]["name"] for line in wrap.seen() if line.get("method") == "tools/call"]
    assert names == ["echo", "echo"], "a call that was taken back while it was held goes nowhere"


def test_e4_a_crash_between_spending_and_forwarding_needs_a_new_yes(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """The tool took the connection and never answered when the sidecar died."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = sidecar_on(tmp_path / "one", f"http://127.0.0.1:{silent.getsockname()[1]}")
        process.start()
        try:
            call = pool.submit(buy, process, "gin")
            (one,) = waiting(process)
            approvals(process, "approve", one["approval_id"])
            connection, _ = silent.accept()
            assert connection.recv(4096).startswith(b"POST /buy/gin")
            process.kill()
            with pytest.raises((OSError, http.client.HTTPException)):
                call.result(20)
            connection.close()
            process.start()
            (spent,) = approvals(process, "show", one["approval_id"])
            assert spent["state"] == "spent"
            again = pool.submit(buy, process, "gin")
            (fresh,) = waiting(process)
            assert fresh["approval_id"] != one["approval_id"], "a person must say yes again"
            approvals(process, "reject", fresh["approval_id"])
            again.result(20)
        finally:
            process.stop()
    recovered = [one for one in process.receipts() if one["kind"] == "recovery"]
    assert [one["outcome"] for one in recovered] == ["unknown"]
    assert recovered[0]["call_id"] == spent["spent_by"]
