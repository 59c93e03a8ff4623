"""Asks an MCP server for its tools, in either era of the protocol.

Knows: streamable HTTP as a client: revision 2026-07-28 (stateless) first, else 2025-11-25 with
initialize and a session; paging; answers as JSON or as an event stream. Everything is bounded,
since the server is not trusted.
Must not know: YAML, catalogues, where the result goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import orjson

from sidecar import __version__
from sidecar.cli.os_error_text import os_error_text
from sidecar.proxy.list_cutting import without_unreadable

STATELESS = "2026-07-28"
WITH_SESSION = "2025-11-25"

ANSWER_BYTES_MAX = 16 * 1024 * 1024
PAGES_MAX = 200
TOOLS_MAX = 5000
DEPTH_MAX = 61
DEADLINE_S = 60.0

_CLIENT = {"name": "aegis-sidecar", "version": __version__}
_ACCEPT = "application/json, text/event-stream"


class ImportFailed(Exception):
    """The tools could not be listed; the message says why, for the operator."""


class NotSpoken(Exception):
    """The server answered, but does not speak this revision."""


class Asked(Protocol):
    """A server that is asked, whatever carries the questions. `headers` go with each of them."""

    url: str
    headers: dict[str, str]

    async def request(
        self, method: str, params: dict[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """The result of one request; raises NotSpoken for an error of the protocol."""
        ...

    async def notify(self, method: str, headers: Mapping[str, str]) -> None:
        """Says what needs no answer."""
        ...

    async def end_session(self, headers: Mapping[str, str]) -> None:
        """Says that no more is asked."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server says of its tools; `revision` is the protocol revision it was asked in."""

    tools: list[dict[str, Any]]
    revision: str
    server: str


async def list_tools(
    url: str, headers: Mapping[str, str], query: str = "", *, deadline_s: float = DEADLINE_S
) -> Listing:
    """All tools of the MCP server at `url`; `headers` carry the upstream's credential, as `query`
    may, which is never shown.

    Raises ImportFailed.
    """
    timeout = aiohttp.ClientTimeout(total=deadline_s)
    try:
        async with aiohttp.ClientSession(
            timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ) as session:
            address = f"{url}?{query}" if query else url
            return await list_from(_Server(session, url, dict(headers), address))
    except TimeoutError:
        raise ImportFailed(f"{url} did not answer within {deadline_s:g} s") from None
    except aiohttp.ClientError as error:
        why = _why(error).replace(query, "***") if query else _why(error)
        raise ImportFailed(f"{url} cannot be read: {why}") from None


def _why(error: aiohttp.ClientError) -> str:
    """Of a connection that was not made: what the system said; the address stands before it."""
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(
        error, aiohttp.ClientSSLError
    ):
        return os_error_text(error.os_error)
    return str(error)


async def list_from(server: Asked) -> Listing:
    """All tools of a server, asked in the newest revision that it speaks. Raises ImportFailed."""
    try:
        return await _list_stateless(server)
    except NotSpoken:
        return await _list_with_session(server)


@dataclass(slots=True)
class _Server:
    """The server asked, with the id of the next request and the headers all requests carry."""

    session: aiohttp.ClientSession
    url: str
    headers: dict[str, str]
    address: str
    next_id: int = 1

    async def request(
        self, method: str, params: dict[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """The result of one request; raises NotSpoken for an error of the protocol."""
        request_id, self.next_id = self.next_id, self.next_id + 1
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        async with self._post(message, headers) as response:
            if 300 <= response.status < 400 or response.status in (401, 403, 407):
                raise ImportFailed(f"{self.url} answered {method} with HTTP {response.status}")
            if response.status >= 500:
                raise ImportFailed(f"{self.url} answered {method} with HTTP {response.status}")
            if response.status != 200:
                raise NotSpoken(f"HTTP {response.status}")
            if method == "initialize" and "Mcp-Session-Id" in response.headers:
                self.headers["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
            answer = await _answer(response, request_id)
        if "error" in answer:
            raise NotSpoken(f"{method}: {error_text(answer['error'])}")
        result = answer.get("result")
        if not isinstance(result, dict):
            raise ImportFailed(f"{self.url} answered {method} without a result")
        return result

    async def notify(self, method: str, headers: Mapping[str, str]) -> None:
        async with self._post({"jsonrpc": "2.0", "method": method}, headers) as response:
            if response.status >= 400:
                raise ImportFailed(f"{self.url} answered {method} with HTTP {response.status}")

    async def end_session(self, headers: Mapping[str, str]) -> None:
        async with self.session.delete(
            self.address, headers={**self.headers, **headers}, allow_redirects=False
        ):
            return  # a server may refuse to end a session; nothing depends on it

    def _post(
        self, message: dict[str, Any], headers: Mapping[str, str]
    ) -> aiohttp.client._RequestContextManager:
        return self.session.post(
            self.address,
            data=orjson.dumps(message),
            headers={
                "Content-Type": "application/json",
                "Accept": _ACCEPT,
                **self.headers,
                **headers,
            },
            allow_redirects=False,
        )


async def _list_stateless(server: Asked) -> Listing:
    meta = {
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": _CLIENT,
    }
    version = {"MCP-Protocol-Version": STATELESS}
    found = await server.request(
        "server/discover", {"_meta": meta}, {**version, "Mcp-Method": "server/discover"}
    )
    if STATELESS not in _list_of(found, "supportedVersions"):
        raise NotSpoken(f"server/discover does not offer {STATELESS}")
    tools = await _all_pages(server, {"_meta": meta}, {**version, "Mcp-Method": "tools/list"})
    return Listing(tools, STATELESS, _server_name(found))


async def _list_with_session(server: Asked) -> Listing:
    try:
        found = await server.request(
            "initialize",
            {"protocolVersion": WITH_SESSION, "capabilities": {}, "clientInfo": _CLIENT},
            {},
        )
        revision = str(found.get("protocolVersion", WITH_SESSION))
        version = {"MCP-Protocol-Version": revision}
        await server.notify("notifications/initialized", version)
        tools = await _all_pages(server, {}, version)
    except NotSpoken as refused:
        why = f"{refused}{_of_older(server.url)}"
        raise ImportFailed(f"{server.url} does not answer as an MCP server: {why}") from None
    if "Mcp-Session-Id" in server.headers:
        await server.end_session(version)
    return Listing(tools, revision, _server_name(found))


def _of_older(url: str) -> str:
    """What may be meant by an address that servers of revision 2024-11-05 have by custom."""
    if not urlsplit(url).path.endswith("/sse"):
        return ""
    return (
        "; if it speaks HTTP+SSE, the transport of revision 2024-11-05, `url` has to be its "
        "address for streamable HTTP, mostly /mcp"
    )


async def _all_pages(
    server: Asked, params: dict[str, Any], headers: Mapping[str, str]
) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    cursor: Any = None
    for _ in range(PAGES_MAX):
        page = params if cursor is None else {**params, "cursor": cursor}
        try:
            result = await server.request("tools/list", page, headers)
        except NotSpoken as refused:
            raise ImportFailed(f"{server.url} does not list its tools: {refused}") from None
        tools += [tool for tool in _list_of(result, "tools") if isinstance(tool, dict)]
        if len(tools) > TOOLS_MAX:
            raise ImportFailed(f"{server.url} lists more than {TOOLS_MAX} tools")
        previous, cursor = cursor, result.get("nextCursor")
        if cursor is None:
            return tools
        if not isinstance(cursor, str) or cursor == previous:
            raise ImportFailed(f"{server.url} lists its tools with a cursor that does not advance")
    raise ImportFailed(f"{server.url} lists its tools on more than {PAGES_MAX} pages")


async def _answer(response: aiohttp.ClientResponse, request_id: int) -> dict[str, Any]:
    """The JSON-RPC message that answers `request_id`, from JSON or from an event stream."""
    if response.content_type == "text/event-stream":
        async for data in _event_data(response):
            message = _message(data)
            if message.get("id") == request_id and "method" not in message:
                return message
        raise ImportFailed("The server's event stream ended without an answer")
    if response.content_type != "application/json":
        raise NotSpoken(f"answer of type {response.content_type}")
    body = b"".join([chunk async for chunk in _bounded(response)])
    return _message(body)


async def _event_data(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The data of each server-sent event; line ends are LF, CRLF or CR."""
    pending = b""
    async for chunk in _bounded(response):
        pending += chunk
        if pending.endswith(b"\r"):
            continue  # the other half of a CRLF may follow
        pending = pending.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *events, pending = pending.split(b"\n\n")
        for event in events:
            data = b"\n".join(_data_lines(event))
            if data:
                yield data


def _data_lines(event: bytes) -> Iterator[bytes]:
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            yield line[5:].removeprefix(b" ")


async def _bounded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > ANSWER_BYTES_MAX:
            raise ImportFailed(f"The server's answer is larger than {ANSWER_BYTES_MAX} bytes")
        yield chunk


def read_message(data: bytes) -> Any:
    """The JSON of a message; a tool in it that cannot be read keeps its name, and takes no other
    one with it. Raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        cut = without_unreadable(data, DEPTH_MAX)
        if cut is None:
            raise
    message = orjson.loads(cut.data)
    message["result"]["tools"] += [
        {"name": name, "description": f"It is hidden: {why}"} for name, why in cut.gone.items()
    ]
    return message


def _message(data: bytes) -> dict[str, Any]:
    try:
        message = read_message(data)
    except orjson.JSONDecodeError as error:
        raise ImportFailed(f"The server's answer is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ImportFailed("The server's answer is not a JSON object")
    return message


def _list_of(result: dict[str, Any], name: str) -> list[Any]:
    value = result.get(name)
    return value if isinstance(value, list) else []


def _server_name(found: dict[str, Any]) -> str:
    meta = found.get("_meta")
    stated = meta.get("io.modelcontextprotocol/serverInfo") if isinstance(meta, dict) else None
    server = found.get("serverInfo", stated)
    name = server.get("name") if isinstance(server, dict) else None
    return name if isinstance(name, str) else "unnamed server"


def error_text(error: Any) -> str:
    """A JSON-RPC error in a few words."""
    if isinstance(error, dict):
        return f"{error.get('code')} {str(error.get('message'))[:200]}"
    return "malformed error"


def run_list_tools(url: str, headers: Mapping[str, str], query: str = "") -> Listing:
    """`list_tools` for a command line without an event loop."""
    return asyncio.run(list_tools(url, headers, query))
