"""A scripted MCP server: what each request is answered with, and what reached it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy_wire_setup import read_request

CATALOGUES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get}\n",
    "mcp.yaml": "catalogue: mcp\ntools: {look: {mutates: false}}\n",
}
POLICY = """policy: p
rules:
  - {id: looks, effect: allow, tools: [mcp/look, "mcp/mcp:prompts/get"]}
  - {id: roots, effect: allow, tools: "mcp/mcp:roots/list"}
"""
ACCEPT = {"Accept": "application/json, text/event-stream"}


@dataclass
class Seen:
    """One request as it reached the server."""

    method: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class McpServer:
    """Answers each request with what `answer` makes of it: bytes at once, or a list of pieces with
    events to wait for between them."""

    answer: Callable[[Seen], bytes | Sequence[bytes | asyncio.Event]]
    seen: list[Seen] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_request(reader)
            first, *lines = head.decode("latin-1").strip().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (one.partition(":") for one in lines)}
            seen = Seen(first.split()[0], headers, body)
            self.seen.append(seen)
            made = self.answer(seen)
            for piece in [made] if isinstance(made, bytes) else made:
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await piece.wait()
            if not isinstance(made, bytes):
                return


def reply(body: Any, media: str = "application/json", more: str = "", status: int = 200) -> bytes:
    """A whole answer; what is no bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {media}\r\n{more}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def stream(more: str = "") -> bytes:
    """The head of a stream of events that ends with the connection."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{more}Connection: close\r\n\r\n"
    return head.encode()


def event(content: Any, before: bytes = b"") -> bytes:
    """One event, and what stands before its data."""
    return before + b"data: " + json.dumps(content).encode() + b"\n\n"


def asks(method: str, asked: int | str = 90, **params: Any) -> dict[str, Any]:
    """A request of the server."""
    return {"jsonrpc": "2.0", "id": asked, "method": method, "params": params}


def result(text: str = "seen", **more: Any) -> dict[str, Any]:
    """The answer to the call with the id 1."""
    content = [{"type": "text", "text": text}]
    return {"jsonrpc": "2.0", "id": 1, "result": {"content": content, **more}}


def input_required(state: str | None = "opaque", **requests: Any) -> dict[str, Any]:
    """An answer that asks for more."""
    said: dict[str, Any] = {"resultType": "input_required", "inputRequests": requests}
    if state is not None:
        said["requestState"] = state
    return {"jsonrpc": "2.0", "id": 1, "result": said}


def call(name: str = "look", **params: Any) -> dict[str, Any]:
    """A `tools/call` with the id 1."""
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": {}, **params},
    }
