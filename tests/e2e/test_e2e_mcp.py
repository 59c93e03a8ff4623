"""The official MCP client through the sidecar: the same results as direct, in both eras."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import mcp_fixture
import pytest
from mcp.client import Client
from running import Process, free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CATALOGUE = """\
catalogue: tools
tools:
  add: {mutates: false, args: {a: int, b: int}}
  count: {mutates: false}
  wait: {mutates: false}
"""
POLICY = """\
policy: mcp
rules:
  - {id: reads, effect: allow, tools: tools/*, mutates: false}
"""
MODES = ["legacy", "2026-07-28", "auto"]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[str, str, Process]]:
    """(direct URL, URL through the sidecar, the sidecar)."""
    mcp_fixture.cancelled.clear()
    async with mcp_fixture.serving(free_port()) as direct:
        sidecar = Process(tmp_path)
        sidecar.write(
            f"  tools: {{url: '{direct}', kind: mcp}}",
            {"tools.yaml": CATALOGUE, "policy.yaml": POLICY},
        )
        await asyncio.to_thread(sidecar.start)
        try:
            yield direct, f"{sidecar.url}/tools/mcp", sidecar
        finally:
            await asyncio.to_thread(sidecar.stop)


async def story(url: str, mode: str) -> dict[str, Any]:
    """What one client sees from beginning to end, as plain data."""
    steps: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append((done, total, message))

    async with Client(url, mode=mode) as client:
        tools = await client.list_tools()
        added = await client.call_tool("add", {"a": 20, "b": 22})
        counted = await client.call_tool("count", {"to": 3}, progress_callback=progress)
        return {
            "version": client.protocol_version,
            "capabilities": client.server_capabilities.model_dump(),
            "tools": [tool.model_dump() for tool in tools.tools],
            "added": added.model_dump(),
            "counted": counted.model_dump(),
            "progress": steps,
        }


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_sees_the_same_as_direct(
    served: tuple[str, str, Process], mode: str
) -> None:
    direct_url, sidecar_url, _ = served
    direct, through = await story(direct_url, mode), await story(sidecar_url, mode)
    assert direct["added"]["structured_content"] == {"result": 42}
    assert direct["progress"], "the fixture reports progress"
    assert through == direct


@pytest.mark.parametrize("mode", MODES)
async def test_a_refused_tool_is_a_result_the_client_can_read(
    served: tuple[str, str, Process], mode: str
) -> None:
    _, url, sidecar = served
    async with Client(url, mode=mode) as client:
        refused = await client.call_tool("delete_everything", {})
        assert refused.is_error
        text = refused.content[0].text  # type: ignore[union-attr]
        assert "No policy allows" in text or "default" in text
        allowed = await client.call_tool("add", {"a": 1, "b": 1})
        assert not allowed.is_error
    assert mcp_fixture.cancelled == []
    receipts = await asyncio.to_thread(sidecar.receipts)
    refusals = [receipt for receipt in receipts if receipt["kind"] == "refusal"]
    assert [receipt["tool"] for receipt in refusals] == ["tools/unknown"]
    assert any(receipt["tool"] == "tools/add" for receipt in receipts)


async def test_a_sessions_stream_and_its_end_pass_and_are_recorded(
    served: tuple[str, str, Process],
) -> None:
    """The client of 2025-11-25 opens the GET stream and ends its session with DELETE."""
    _, url, sidecar = served
    await story(url, "legacy")
    ended: dict[str, list[object]] = {}
    for _ in range(50):
        receipts = sidecar.receipts()
        calls = {one["call_id"]: one["action"] for one in receipts if one["kind"] == "intent"}
        ended = {}
        for one in receipts:
            if one["kind"] == "outcome":
                action = str(calls[one["call_id"]])
                ended.setdefault(action, []).append((one["outcome"], one["http_status"]))
        if "GET" in ended and "DELETE" in ended:
            break
        await asyncio.sleep(0.1)
    assert ended["DELETE"] == [("completed", 200)]
    assert [status for _, status in ended["GET"]] == [200]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_cancellation_reaches_the_server(served: tuple[str, str, Process], mode: str) -> None:
    _, url, sidecar = served
    async with Client(url, mode=mode) as client:
        with anyio.move_on_after(0.7):
            await client.call_tool("wait", {"label": mode})
        for _ in range(100):
            if mcp_fixture.cancelled:
                break
            await asyncio.sleep(0.05)
        assert mcp_fixture.cancelled == [mode]
        still = await client.call_tool("add", {"a": 2, "b": 2})
        assert not still.is_error
    for _ in range(60):
        receipts = await asyncio.to_thread(sidecar.receipts)
        waits = {r["call_id"] for r in receipts if r["tool"] == "tools/wait"}
        ends = [r["outcome"] for r in receipts if r["kind"] == "outcome" and r["call_id"] in waits]
        if ends:
            break
        await asyncio.sleep(0.1)
    assert len(ends) == 1


async def test_tools_import_writes_a_catalogue_that_loads(
    served: tuple[str, str, Process],
) -> None:
    _, _, sidecar = served
    done = await asyncio.to_thread(
        sidecar.cli, "tools", "import", "--upstream", "tools", "--config", str(sidecar.config)
    )
    assert done.returncode == 0, done.stderr
    assert "delete_everything" in done.stdout
    target = sidecar.folder / "imported.yaml"
    target.write_text(done.stdout)
    checked = await asyncio.to_thread(sidecar.cli, "policy", "check", str(target))
    assert checked.returncode == 0, checked.stdout + checked.stderr
