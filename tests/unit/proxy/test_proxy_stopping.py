"""What a sidecar that stops waits for: calls that end, and no stream that only listens."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import receipts, whole
from proxy_wire_setup import read_request, until
from websocket_setup import ALLOW

SSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\n:a\n\n\r\n"
)
DONE = b'{"jsonrpc": "2.0", "id": 1, "result": {"content": []}}'
ACCEPT = {"Accept": "application/json, text/event-stream"}
LISTEN = {
    "jsonrpc": "2.0",
    "id": 9,
    "method": "subscriptions/listen",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
        "notifications": {"toolsListChanged": True},
    },
}
MODERN = {**ACCEPT, "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
POLICIES = {
    "mcp.yaml": "catalogue: mcp\ntools: {send: {}}\n",
    "tools.yaml": "catalogue: api\ntools: {events: GET /events}\n",
    "rules.yaml": ALLOW,
}
#: Well below `limits.drain` of these tests.
STOPS_S_MAX = 8.0
DRAIN = "limits: {drain: 20s}\n"


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Streams on which nothing comes; a call takes a second."""
    while True:
        _, body = await read_request(reader)
        if b"tools/call" not in body:
            writer.write(SSE)
            continue
        await asyncio.sleep(1.0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(DONE), DONE))


async def opened(
    port: int, method: str, path: str, headers: dict[str, str], body: Any = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has heard the first event of a stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if sent:
        lines += ["Content-Type: application/json", f"Content-Length: {len(sent)}"]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
    await reader.readuntil(b":a\n")
    return reader, writer


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [("GET", ACCEPT, None), ("POST", MODERN, LISTEN)],
    ids=["sessions", "2026-07-28"],
)
async def test_a_stream_that_only_listens_holds_up_no_stop(
    tmp_path: Path, method: str, headers: dict[str, str], body: Any
) -> None:
    """It would last for `limits.drain`, at each restart, for as long as one agent is there."""
    async with whole(tmp_path, talk, POLICIES, DRAIN) as one:
        reader, writer = await opened(one.port, method, "/mcp", headers, body)
        began = time.monotonic()
    took_s = time.monotonic() - began
    assert took_s < STOPS_S_MAX
    assert b":a" not in await reader.read()
    writer.close()
    ends = [row["outcome"] for row in receipts(tmp_path) if row["kind"] == "outcome"]
    assert ends == ["unknown"]


async def test_it_is_not_cut_before_the_calls_beside_it_ended(tmp_path: Path) -> None:
    """What a server asks for a call may come on it."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "send"}}
    ended: list[str] = []
    async with whole(tmp_path, talk, POLICIES, DRAIN) as one:
        reader, writer = await opened(one.port, "GET", "/mcp", ACCEPT)
        calling = asyncio.create_task(one.ask("POST", "/mcp", call, ACCEPT))
        listening = asyncio.create_task(reader.read())
        calling.add_done_callback(lambda _: ended.append("call"))
        listening.add_done_callback(lambda _: ended.append("stream"))
        await until(lambda: one.arrived.count(b"tools/call") == 1)
    assert (await calling).body == DONE
    await listening
    writer.close()
    assert ended == ["call", "stream"]


async def test_a_stream_of_a_call_is_waited_for(tmp_path: Path) -> None:
    """Control: nobody knows of an answer over REST when it ends."""
    async with whole(tmp_path, talk, POLICIES, "limits: {drain: 2s}\n") as one:
        _, writer = await opened(one.port, "GET", "/api/events", ACCEPT)
        began = time.monotonic()
    assert time.monotonic() - began >= 2.0
    writer.close()
