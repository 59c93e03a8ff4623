"""Listing an MCP server's tools: both eras, paging, event streams, and servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from sidecar.cli import tools_import
from sidecar.cli.tools_import import ImportFailed, list_tools


def sdk_server() -> MCPServer:
    server = MCPServer("sdk-demo")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def read_note(title: str, limit: int = 10) -> str:
        """Reads one note."""
        return title

    @server.tool()
    def delete_notes(titles: list[str], force: bool) -> str:
        """Deletes notes."""
        return str(titles)

    return server


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def answering(handler: Callable[[web.BaseRequest], Any]) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    finally:
        await runner.cleanup()


async def test_the_official_servers_tools_are_listed_without_a_session() -> None:
    async with serving(sdk_server().streamable_http_app()) as url:
        listing = await list_tools(url, {})
    assert (listing.revision, listing.server) == ("2026-07-28", "sdk-demo")
    assert {tool["name"] for tool in listing.tools} == {"read_note", "delete_notes"}
    (read_note,) = (tool for tool in listing.tools if tool["name"] == "read_note")
    assert read_note["annotations"]["readOnlyHint"] is True
    assert read_note["inputSchema"]["required"] == ["title"]


async def test_the_official_servers_tools_are_listed_with_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def not_spoken(server: Any) -> Any:
        raise tools_import.NotSpoken("as an older server answers")

    monkeypatch.setattr(tools_import, "_list_stateless", not_spoken)
    async with serving(sdk_server().streamable_http_app()) as url:
        listing = await list_tools(url, {})
    assert (listing.revision, listing.server) == ("2025-11-25", "sdk-demo")
    assert {tool["name"] for tool in listing.tools} == {"read_note", "delete_notes"}


class OldServer:
    """An older server: sessions, pages, answers as an event stream in small pieces."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, str | None]] = []
        self.pages: dict[str | None, dict[str, Any]] = {
            None: {"tools": [{"name": "one"}], "nextCursor": "2"},
            "2": {"tools": [{"name": "two"}, "no tool"]},
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        session = request.headers.get("Mcp-Session-Id")
        if request.headers.get("Authorization") != "Bearer key":
            return web.Response(status=401)
        if request.method == "DELETE":
            self.seen.append(("DELETE", session, None))
            return web.Response(status=405)
        message = await request.json()
        method = message["method"]
        self.seen.append((method, session, request.headers.get("MCP-Protocol-Version")))
        if "id" not in message:
            return web.Response(status=202)
        if method == "server/discover":
            return web.Response(status=400, text="no session")
        if method == "initialize":
            result = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "old"}}
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            return web.json_response(answer, headers={"Mcp-Session-Id": "s-1"})
        result = self.pages[message["params"].get("cursor")]
        return await self.stream(request, message["id"], result)

    async def stream(self, request: web.BaseRequest, reply_id: Any, result: Any) -> Any:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        answer = json.dumps({"jsonrpc": "2.0", "id": reply_id, "result": result}, indent=1)
        notice = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
        data = "\r\n".join(f"data: {line}" for line in answer.splitlines())
        text = f": hello\r\n\r\nevent: message\r\ndata: {notice}\r\n\r\nid: 7\r\n{data}\r\n\r\n"
        for at in range(0, len(text), 7):
            await response.write(text[at : at + 7].encode())
        await response.write_eof()
        return response


async def test_an_older_server_is_asked_with_a_session_page_by_page() -> None:
    server = OldServer()
    async with answering(server) as url:
        listing = await list_tools(url, {"Authorization": "Bearer key"})
    assert listing == tools_import.Listing([{"name": "one"}, {"name": "two"}], "2025-06-18", "old")
    assert server.seen == [
        ("server/discover", None, "2026-07-28"),
        ("initialize", None, None),
        ("notifications/initialized", "s-1", "2025-06-18"),
        ("tools/list", "s-1", "2025-06-18"),
        ("tools/list", "s-1", "2025-06-18"),
        ("DELETE", "s-1", None),
    ]


class Keyed(OldServer):
    """One that has its key in the query."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if dict(request.query) != {"tenant": "acme", "key": "+/=&? ä"}:
            return web.Response(status=401)
        return await super().__call__(request)


async def test_a_query_goes_with_every_request_and_into_no_message() -> None:
    key, headers = "%2B%2F%3D%26%3F%20%C3%A4", {"Authorization": "Bearer key"}
    async with answering(Keyed()) as url:
        listing = await list_tools(url, headers, f"tenant=acme&key={key}")
        with pytest.raises(ImportFailed) as caught:
            await list_tools(url, headers, "tenant=acme&key=other")
    assert [tool["name"] for tool in listing.tools] == ["one", "two"]
    assert "HTTP 401" in str(caught.value) and "other" not in str(caught.value)


async def test_a_tool_that_cannot_be_read_takes_no_other_one_with_it() -> None:
    class Odd(OldServer):
        async def stream(self, request: web.BaseRequest, reply_id: Any, result: Any) -> Any:
            said = json.dumps({"jsonrpc": "2.0", "id": reply_id, "result": result})
            said = said.replace('"BAD"', r'"\ud800"')
            return web.Response(text=said, content_type="application/json")

    server = Odd()
    odd = {"name": "odd", "description": "BAD"}
    server.pages = {None: {"tools": [{"name": "one"}, odd, {"name": "two"}]}}
    async with answering(server) as url:
        listing = await list_tools(url, {"Authorization": "Bearer key"})
    assert [tool["name"] for tool in listing.tools] == ["one", "two", "odd"]
    assert "no strict JSON" in listing.tools[2]["description"]


async def test_a_missing_credential_is_named() -> None:
    async with answering(OldServer()) as url:
        with pytest.raises(ImportFailed, match="HTTP 401"):
            await list_tools(url, {})


@pytest.mark.parametrize(
    "pages", [{None: {"tools": [], "nextCursor": "a"}, "a": {"nextCursor": "a"}}]
)
async def test_a_cursor_that_does_not_advance_ends_the_import(pages: Any) -> None:
    server = OldServer()
    server.pages = pages
    async with answering(server) as url:
        with pytest.raises(ImportFailed, match="does not advance"):
            await list_tools(url, {"Authorization": "Bearer key"})


@pytest.mark.parametrize(
    ("status", "content_type", "body", "message"),
    [
        (200, "text/html", b"<html>", "does not answer as an MCP server"),
        (404, "text/plain", b"", "does not answer as an MCP server"),
        (500, "text/plain", b"", "HTTP 500"),
        (302, "text/plain", b"", "HTTP 302"),
        (200, "application/json", b"{", "not JSON"),
        (200, "application/json", b"[]", "not a JSON object"),
        (200, "application/json", b'{"jsonrpc":"2.0","id":1}', "without a result"),
        (200, "text/event-stream", b"data: {}\n\n", "ended without an answer"),
        (200, "application/json", b'{"id":1,"error":{"code":-1,"message":"x"}}', "-1 x"),
    ],
)
async def test_a_server_that_does_not_speak_mcp_is_named(
    status: int, content_type: str, body: bytes, message: str
) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
        return web.Response(status=status, content_type=content_type, body=body, headers=headers)

    async with answering(handler) as url:
        with pytest.raises(ImportFailed, match=message):
            await list_tools(url, {})


async def test_where_a_server_of_an_older_transport_is_asked_its_operator_is_told() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=404)

    async with answering(handler) as url:
        with pytest.raises(ImportFailed, match=r"HTTP 404; if it speaks HTTP.SSE") as caught:
            await list_tools(url.removesuffix("/mcp") + "/sse", {})
        assert "streamable HTTP" in str(caught.value)
        with pytest.raises(ImportFailed, match=r"HTTP 404$"):
            await list_tools(url, {})


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools_import, "ANSWER_BYTES_MAX", 1000)

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(content_type="application/json", body=b" " * 2000)

    async with answering(handler) as url:
        with pytest.raises(ImportFailed, match="larger than 1000 bytes"):
            await list_tools(url, {})


async def test_a_silent_server_is_given_up() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response()

    async with answering(handler) as url:
        with pytest.raises(ImportFailed, match="did not answer"):
            await list_tools(url, {}, deadline_s=0.1)


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ImportFailed, match="cannot be read"):
        await list_tools("http://127.0.0.1:1/mcp", {})
