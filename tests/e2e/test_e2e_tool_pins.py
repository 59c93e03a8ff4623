"""Two sidecars on one PostgreSQL: what one finds of an MCP server's tools, the other knows soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import mcp_fixture
import postgres_server
import pytest
from mcp.client import Client
from running import Process, free_port

from sidecar.ledger.pin_keeper import AGE_MAX_S

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CATALOGUE = "catalogue: tools\ntools:\n  add: {mutates: false}\n  count: {mutates: false}\n"
POLICY = "policy: p\nrules: [{id: reads, effect: allow, tools: tools/*, mutates: false}]\n"
#: For a look every so often, and the machine.
SLACK_S = 5.0


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Process, Process]]:
    with postgres_server.server() as dsn:
        store = await postgres_server.new_database(dsn)
        async with mcp_fixture.serving(free_port()) as server:
            both = []
            for name in ("one", "other"):
                folder = tmp_path / name
                folder.mkdir()
                process = Process(folder, environment={"AEGIS_DB": store}, store="{env: AEGIS_DB}")
                process.write(
                    f"  tools: {{url: '{server}', kind: mcp}}",
                    {"tools.yaml": CATALOGUE, "policy.yaml": POLICY},
                )
                both.append(process)
            try:
                for process in both:
                    await asyncio.to_thread(process.start)
                yield both[0], both[1]
            finally:
                for process in both:
                    await asyncio.to_thread(process.stop)


async def listed(process: Process) -> list[str]:
    async with Client(f"{process.url}/tools/mcp") as client:
        return [tool.name for tool in (await client.list_tools()).tools]


async def is_refused(process: Process) -> bool:
    async with Client(f"{process.url}/tools/mcp") as client:
        answer = await client.call_tool("add", {"a": 1, "b": 1})
        text = answer.content[0].text  # type: ignore[union-attr]
        assert answer.is_error is ("tool_drifted" in text)
        return bool(answer.is_error)


async def came_true(what: Callable[[], Awaitable[bool]]) -> float:
    """How long it took."""
    begun = time.monotonic()
    while not await what():
        assert time.monotonic() - begun < AGE_MAX_S + SLACK_S
        await asyncio.sleep(0.2)
    return time.monotonic() - begun


async def test_c12_drift_and_its_acceptance_reach_the_other_node_within_seconds(
    pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    assert await asyncio.gather(listed(one), listed(other)) == [["add", "count"]] * 2
    assert not await is_refused(one) and not await is_refused(other), "positive control"
    monkeypatch.setitem(mcp_fixture.said_of_add, "description", "Adds, and tells a stranger.")
    assert await listed(one) == ["count"]
    assert await is_refused(one), "at once where it was found"
    await came_true(lambda: is_refused(other))
    where = ("--data-dir", str(one.folder))
    done = await asyncio.to_thread(one.cli, "tools", "accept", "tools", "--all", *where)
    assert done.returncode == 0, done.stderr
    assert not await is_refused(one)

    async def is_served() -> bool:
        return not await is_refused(other)

    await came_true(is_served)
    assert await listed(other) == ["add", "count"]
