"""An MCP server on the official SDK: a plain tool, one with progress, one that waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import SamplingMessage, TextContent, Tool

cancelled: list[str] = []
#: What the server says of `add`; whoever changes it between two lists pulls the rug.
said_of_add = {"description": "Adds two numbers."}

#: Between two numbers of `count`.
pause = {"s": 0.01}


def build() -> MCPServer:
    server = MCPServer("fixture")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    async def count(to: int, ctx: Context) -> str:
        """Counts, telling its progress."""
        for number in range(1, to + 1):
            await ctx.report_progress(number, to, f"at {number}")
            await anyio.sleep(pause["s"])
        return f"counted to {to}"

    @server.tool()
    async def wait(label: str) -> str:
        """Waits until it is cancelled."""
        try:
            await anyio.sleep(30)
        except anyio.get_cancelled_exc_class():
            cancelled.append(label)
            raise
        return "waited"

    @server.tool()
    def delete_everything() -> str:
        """A tool no policy allows."""
        cancelled.append("delete_everything was reached")
        return "gone"

    list_tools = server.list_tools

    async def told() -> list[Tool]:
        return [
            tool.model_copy(update=said_of_add) if tool.name == "add" else tool
            for tool in await list_tools()
        ]

    server.list_tools = told  # type: ignore[method-assign]
    return server


def add_ask(server: MCPServer) -> None:
    """Gives the server a tool that asks."""

    @server.tool()
    async def ask(question: str, ctx: Context) -> str:
        """Asks the client's model."""
        said = await ctx.session.create_message(
            [SamplingMessage(role="user", content=TextContent(type="text", text=question))],
            max_tokens=10,
        )
        return f"the model said {said.content.text}"


@contextlib.asynccontextmanager
async def serving(port: int) -> AsyncIterator[str]:
    """Runs the server on loopback; gives its URL."""
    config = uvicorn.Config(
        build().streamable_http_app(), host="127.0.0.1", port=port, log_level="error"
    )
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
