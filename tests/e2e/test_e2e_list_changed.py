"""A server on the official SDK changes its tools while it serves, and says so; official clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_fixture
import pytest
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolListChangedNotification
from running import Process, free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

POLICY = "policy: p\nrules: [{id: all, effect: allow, tools: tools/*}]\n"
CATALOGUE = "catalogue: tools\ntools:\n  add: {mutates: false}\n  grow: {}\n  more: {}\n"
MODERN = "2026-07-28"


def build() -> MCPServer:
    """A server with a tool that gives it another one."""
    server = MCPServer("growing")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    async def grow(ctx: Context) -> str:
        """Makes a tool, and tells whoever listens."""
        if not any(tool.name == "more" for tool in await server.list_tools()):
            server.tool(name="more")(lambda: "more")
        await ctx.notify_tools_changed()
        await ctx.session.send_tool_list_changed()
        return "grown"

    return server


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    monkeypatch.setattr(mcp_fixture, "build", build)
    async with mcp_fixture.serving(free_port()) as direct:
        sidecar = Process(tmp_path)
        files = {"tools.yaml": CATALOGUE, "policy.yaml": POLICY}
        sidecar.write(f"  tools: {{url: '{direct}', kind: mcp}}", files)
        await asyncio.to_thread(sidecar.start)
        try:
            yield sidecar
        finally:
            await asyncio.to_thread(sidecar.stop)


async def listed(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def refusals(sidecar: Process) -> list[tuple[object, object]]:
    found = await asyncio.to_thread(sidecar.receipts)
    return [(one["tool"], one["outcome"]) for one in found if one["kind"] == "refusal"]


async def added(client: Client) -> str:
    """What a client reads of a call: the sum, or the code of the refusal."""
    said = await client.call_tool("add", {"a": 20, "b": 22})
    text = str(said.content[0].text)  # type: ignore[union-attr]
    return "list_changed" if said.is_error and "(list_changed)" in text else text


async def test_c12_a_client_of_a_session_that_lists_again_goes_on(served: Process) -> None:
    """It is told on the stream of its session (2025-11-25)."""
    told = asyncio.Event()

    async def handler(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            told.set()

    url = f"{served.url}/tools/mcp"
    async with Client(url, mode="legacy", message_handler=handler) as client:
        assert await listed(client) == ["add", "grow"]
        assert await added(client) == "42", "positive control"
        async with asyncio.timeout(10):
            while not told.is_set():  # its stream may not be open yet; nobody is told then
                await client.call_tool("grow", {})
                await asyncio.sleep(0.1)
                if not told.is_set():
                    await listed(client)
        assert await added(client) == "list_changed"
        assert await listed(client) == ["add", "grow", "more"]
        assert await added(client) == "42"
        assert not (await client.call_tool("more", {})).is_error
    assert ("tools/add", "list_changed") in await refusals(served)


async def test_c12_a_client_that_listens_and_lists_again_goes_on(served: Process) -> None:
    """It listens (2026-07-28); another one, which neither hears nor lists, waits for it."""
    url = f"{served.url}/tools/mcp"
    async with Client(url, mode=MODERN) as client, Client(url, mode=MODERN) as deaf:
        assert await listed(client) == ["add", "grow"]
        async with client.listen(tools_list_changed=True) as subscription:
            assert await added(client) == await added(deaf) == "42", "positive control"
            assert not (await client.call_tool("grow", {})).is_error
            async with asyncio.timeout(10):
                await anext(aiter(subscription))
            assert await added(deaf) == "list_changed"
            assert await listed(client) == ["add", "grow", "more"]
            assert await added(client) == await added(deaf) == "42"
    assert await refusals(served) == [("tools/add", "list_changed")]
