"""The two Python parsers: servers on h11 and on aiohttp, in the harness's own process.

Knows: what each reads of a request by its own means, and the ways of reading that servers built on
it share (`urllib` and `json` for h11). Answers carry no body; what was read is kept by the port of
the connection it came from.
Must not know: the sidecar, what was sent, whether a reading is right.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

import h11
from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from fuzz_forms import FORM_DATA
from wire_forms import file_text, read_form_data
from wire_reading import NOTHING, Reading

HEAD_BYTES_MAX = 1 << 18


class Parser(Protocol):
    """A server that tells what it read: `readings` by the port of the peer."""

    name: str
    port: int
    readings: dict[int, list[Reading]]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def take_answer(self, port: int, head: bytes) -> None:
        """The head of an answer it gave; some tell there what they read."""


class H11Parser:
    """A server on h11: what stands behind it is Python's `urllib` and `json`."""

    name = "h11"

    def __init__(self) -> None:
        self.port = 0
        self.readings: dict[int, list[Reading]] = defaultdict(list)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def take_answer(self, port: int, head: bytes) -> None:
        """It keeps its readings itself."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        request: h11.Request | None = None
        body: list[bytes] = []
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    piece = await reader.read(1 << 16)
                    connection.receive_data(piece)
                elif isinstance(event, h11.Request):
                    request, body = event, []
                elif isinstance(event, h11.Data):
                    body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage) and request is not None:
                    self.readings[port].append(_read_by_python(request, b"".join(body)))
                    answer = h11.Response(status_code=200, headers=[("Content-Length", "0")])
                    for sent in (answer, h11.EndOfMessage()):
                        writer.write(connection.send(sent) or b"")
                    if connection.our_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
                else:  # closed, or an upgrade nobody asked for
                    return
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            writer.write(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % status)
        except (ConnectionError, asyncio.CancelledError):
            return  # the tap hung up, or the run is over
        finally:
            writer.close()


def _read_by_python(request: h11.Request, body: bytes) -> Reading:
    target = request.target.decode("latin-1")
    path, _, query = target.partition("?")
    return Reading(
        "h11",
        request.method.decode("latin-1"),
        target,
        [(name.decode("latin-1"), value) for name, value in request.headers],
        body,
        path=unquote(path),
        query=parse_qsl(query, keep_blank_values=True),
        form=_python_form(request, body),
        json=read_json(body),
    )


def _python_form(request: h11.Request, body: bytes) -> list[tuple[str, str]]:
    said = dict(request.headers).get(b"content-type", b"").decode("latin-1")
    if said.lower().startswith(FORM_DATA):
        return read_form_data(said, body)
    return parse_qsl(body.decode("latin-1"), keep_blank_values=True)


def read_json(body: bytes) -> Any:
    """The body as Python's json reads it, which guesses at encodings and takes the last of two."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return NOTHING


class AiohttpParser:
    """A server on aiohttp: path and query by yarl, the form by aiohttp itself."""

    name = "aiohttp"

    def __init__(self) -> None:
        self.port = 0
        self.readings: dict[int, list[Reading]] = defaultdict(list)
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        server = web.Server(self._handle, max_line_size=HEAD_BYTES_MAX, access_log=None)
        self._runner = web.ServerRunner(server)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def take_answer(self, port: int, head: bytes) -> None:
        """It keeps its readings itself."""

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        form: list[tuple[str, str]] | None = []
        if request.content_type in ("application/x-www-form-urlencoded", FORM_DATA):
            form = await _aiohttp_form(request, body)
        try:
            document = await request.json()
        except (ValueError, RecursionError):
            document = NOTHING
        transport = request.transport
        port = transport.get_extra_info("peername")[1] if transport is not None else 0
        self.readings[port].append(
            Reading(
                self.name,
                request.method,
                request.raw_path,
                [(name.decode("latin-1").lower(), value) for name, value in request.raw_headers],
                body,
                path=request.path,
                query=list(request.query.items()),
                form=form,
                json=document,
            )
        )
        return web.Response()


async def _aiohttp_form(request: web.BaseRequest, body: bytes) -> list[tuple[str, str]] | None:
    """The form; None if aiohttp finds that it is none."""
    try:
        if request.content_type == FORM_DATA:
            return await _aiohttp_parts(request, body)
        return [(name, str(value)) for name, value in (await request.post()).items()]
    except (ValueError, LookupError):
        return None


async def _aiohttp_parts(request: web.BaseRequest, body: bytes) -> list[tuple[str, str]]:
    """As `BaseRequest.post` reads them; that would read the body anew, which is gone by then."""
    payload = StreamReader(request.protocol, len(body) + 1, loop=asyncio.get_running_loop())
    payload.feed_data(body)
    payload.feed_eof()
    parts = MultipartReader(request.headers, payload)
    form = []
    while (part := await parts.next()) is not None:
        if not isinstance(part, BodyPartReader):
            form.append(("parts within parts", ""))
            continue
        content = bytes(await part.read(decode=True))
        name, filename = part.name or "", part.filename
        text = content.decode("utf-8", "replace")
        form.append((name, text if filename is None else file_text(filename, content)))
    return form
