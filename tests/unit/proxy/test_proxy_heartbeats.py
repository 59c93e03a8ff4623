"""Silent streams are kept alive, and clients that vanished are noticed; over real sockets (C17)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from proxy_mcp_setup import ACCEPT, CATALOGUES, POLICY, McpServer, Seen, call, event, result, stream
from proxy_mcp_setup import reply as whole_reply
from proxy_whole_setup import Whole, receipts, whole
from proxy_wire_setup import (
    door,
    limits_of,
    raw_upstream,
    read_request,
    request,
    until,
    upstream_of,
)

from sidecar.config.model import Limits
from sidecar.proxy.event_boundary import COMMENT
from sidecar.proxy.server import FrontDoor

EVERY_S = 0.1
BEAT = b"3\r\n:\n\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%bTransfer-Encoding: chunked\r\n\r\n"
DONE = event(result("done"))
QUICK = "limits: {heartbeat: 100ms}\n"
OFF = "limits: {heartbeat: 0s}\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def scripted(*steps: bytes | float | asyncio.Event) -> Any:
    """What an upstream does with each request: bytes to write, seconds to be silent, events to wait
    for. Then it reads until the other side is gone."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                await step.wait()
        await reader.read()

    return talk


def joined(raw: bytes) -> bytes:
    """The body that came in these chunks, its end included or not."""
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        body, raw = body + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
    return body


async def heard(raw: bytes, talk: Any, wait_s: float, **limits: Any) -> bytes:
    """What a client hears of a REST upstream in so many seconds, behind the head of the reply."""
    limits.setdefault("heartbeat_s", EVERY_S)
    async with (
        raw_upstream(talk) as upstream,
        door(upstream_of(upstream.port), limits=limits_of(**limits)) as front,
    ):
        answer = await front.ask(raw, wait_s)
    return answer.partition(b"\r\n\r\n")[2]


async def test_c17_a_silent_stream_is_kept_alive_from_its_begin() -> None:
    """Each silence of that length, and no other, has its comment."""
    now, every_s, said = asyncio.get_running_loop().time, 0.2, chunk(b"data: a\n\n")
    gate = asyncio.Event()
    async with (
        raw_upstream(scripted(HEAD % b"", gate, said, 3.0)) as upstream,
        door(upstream_of(upstream.port), limits=limits_of(heartbeat_s=every_s)) as front,
    ):
        reader, writer = await front.open()
        writer.write(request("/up/events"))
        await reader.readuntil(b"\r\n\r\n")
        at = []
        for has_begun in (False, True):
            if has_begun:
                gate.set()
                await reader.readuntil(said)
            began = now()
            for _ in range(3):
                assert await reader.readexactly(len(BEAT)) == BEAT
                at.append(now() - began)
    for number, moment in enumerate(at):
        expected = every_s * (number % 3 + 1)
        assert expected * 0.9 < moment < expected + 2 * every_s, at


async def test_c17_no_comment_stands_in_half_an_event() -> None:
    """Nor within a line, a character, a line end; what passes is the upstream's byte for byte."""
    upstreams = [
        [b"data: a", b"\n", b"\n"], [b"data: a\n", b"data: b\n", b"\n"], [b"id: 1\n", b"\n"],
        [b"data: \xf0\x9f", b"\x98\x80\n\n"], [b"data: a\r\n\r", b"\n"], [b": com", b"ment\n\n"],
        [b"event: x\r\n", b"data: c\r\n\r\n"],
    ]  # fmt: skip
    for pieces in upstreams:
        steps: list[bytes | float] = [HEAD % b"", chunk(b"data: first\n\n")]
        for piece in pieces:
            steps += [chunk(piece), EVERY_S * 2]
        body = await heard(request("/up/events"), scripted(*steps, 5.0), 2 * EVERY_S * len(pieces))
        before, found, behind = joined(body).partition(b"".join(pieces))
        assert found, f"something stands between {pieces}: {body!r}"
        assert before.replace(COMMENT, b"") == b"data: first\n\n"
        assert not behind.replace(COMMENT, b"")


async def test_c17_between_two_events_a_comment_stands() -> None:
    """Positive control of what stands above: the same, cut elsewhere."""
    steps = [chunk(b"data: a\n\n"), EVERY_S * 2, chunk(b"id: 1\ndata: b\r\n\r\n"), EVERY_S * 2]
    body = await heard(request("/up/events"), scripted(HEAD % b"", *steps, 5.0), EVERY_S * 5)
    first, found, rest = joined(body).partition(b"id: 1\ndata: b\r\n\r\n")
    assert first.startswith(b"data: a\n\n" + COMMENT)
    assert found and rest.startswith(COMMENT)


async def test_c17_the_upstreams_own_comments_pass_and_are_life_enough() -> None:
    own: list[bytes | float] = []
    for _ in range(12):
        own += [chunk(b": ping\n\n"), EVERY_S / 4]
    asked = request("/up/events", "Connection: close")
    body = await heard(asked, scripted(HEAD % b"", *own, b"0\r\n\r\n"), 3.0)
    assert joined(body) == b": ping\n\n" * 12


EXACT = {
    "JSON": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 90\r\n\r\n",
    "compressed": HEAD % b"Content-Encoding: gzip\r\n",
    "a digest": HEAD % b"Content-Digest: sha-256=:AAAA:\r\n",
    "another charset": HEAD.replace(b"event-stream", b"event-stream; charset=utf-16") % b"",
    "two types": HEAD % b"Content-Type: text/plain\r\n",
    "text": HEAD.replace(b"event-stream", b"plain") % b"",
    "a part": HEAD.replace(b"200 OK", b"206 Partial") % b"Content-Range: bytes 0-9/*\r\n",
    "an error": HEAD.replace(b"200 OK", b"500 X") % b"",
}


@pytest.mark.parametrize("name", EXACT)
async def test_c17_no_comment_where_the_bytes_must_be_these(name: str) -> None:
    head = EXACT[name]
    sent = b"data: a\n\n" if b"Content-Length" in head else chunk(b"data: a\n\n")
    body = await heard(request("/up/x"), scripted(head, sent, 5.0), EVERY_S * 4)
    assert body == sent


async def test_c17_where_nothing_says_so_there_are_comments() -> None:
    """Positive control."""
    for head in (
        HEAD % b"X: y\r\n",
        HEAD.replace(b"event-stream", b"event-stream;charset=utf-8") % b"",
    ):
        talk = scripted(head, chunk(b"data: a\n\n"), 5.0)
        assert BEAT in await heard(request("/up/x"), talk, EVERY_S * 4)


async def test_c17_no_comment_without_chunks_and_none_where_they_are_off() -> None:
    talk = scripted(HEAD % b"", chunk(b"data: a\n\n"), 5.0)
    old = b"GET /up/events HTTP/1.0\r\nHost: localhost\r\n\r\n"
    assert await heard(old, talk, EVERY_S * 4) == b"data: a\n\n"
    off = await heard(request("/up/x"), talk, EVERY_S * 4, heartbeat_s=0.0)
    assert off == chunk(b"data: a\n\n")
    usual = await heard(request("/up/x"), talk, EVERY_S * 4, heartbeat_s=Limits().heartbeat_s)
    assert usual == off, "by default it takes longer"


async def test_c17_a_silent_upstream_is_given_up_all_the_same() -> None:
    """The cap counts from its own last byte: comments of ours are none of it."""
    now = asyncio.get_running_loop().time
    talk = scripted(HEAD % b"", chunk(b"data: a\n\n"), 9.0)
    async with (
        raw_upstream(talk) as upstream,
        door(
            upstream_of(upstream.port, idle_s=1.0), limits=limits_of(heartbeat_s=EVERY_S)
        ) as front,
    ):
        began = now()
        body = await front.ask(request("/up/events"), 5.0)
        assert 1.0 <= now() - began < 2.0
        assert body.count(BEAT) >= 3 and not body.endswith(b"0\r\n\r\n"), "it broke off"
        assert front.ended == ["upstream_timeout"]


async def test_c17_a_client_that_takes_nothing_is_sent_nothing_more() -> None:
    """What waits to be taken does not grow: wherever it is cut, here is room for a comment."""
    talk = scripted(HEAD % b"", *[chunk(b"\n" * 60_000)] * 200, 9.0)
    async with (
        raw_upstream(talk) as upstream,
        door(upstream_of(upstream.port), limits=limits_of(heartbeat_s=0.01)) as front,
    ):
        reader, writer = await front.open()
        writer.write(request("/up/events"))
        await reader.readuntil(b"\r\n\r\n")
        (connection,) = front.front.connections
        assert connection.transport is not None
        size = connection.transport.get_write_buffer_size
        await until(lambda: size() > 0)
        await asyncio.sleep(0.3)
        before = size()
        await asyncio.sleep(0.5)
        assert size() == before > 0


# -- through a whole sidecar ---------------------------------------------------------------------


def serve(folder: Path, talk: McpServer, more: str) -> Any:
    return whole(folder, talk, {**CATALOGUES, "p.yaml": POLICY}, more)


async def sse(one: Whole, method: str = "POST", wait_s: float = 1.0) -> bytes:
    """The head and the body of a stream as far as it came in time."""
    reader, writer = await sent(one, method)
    got = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while piece := await reader.read(65536):
                got += piece
    writer.close()
    return got


async def sent(
    one: Whole, method: str = "POST", own: socket.socket | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A call, or a session's stream, as a client asks for it."""
    body = json.dumps(call()).encode() if method == "POST" else b""
    lines = [
        f"{method} /mcp HTTP/1.1",
        f"Host: 127.0.0.1:{one.port}",
        f"Accept: {ACCEPT['Accept']}",
    ]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    if own is not None:
        reader, writer = await asyncio.open_connection(sock=own)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    return reader, writer


def outcomes(folder: Path) -> list[str]:
    return [one["outcome"] for one in receipts(folder) if one["kind"] == "outcome"]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_c17_mcp_streams_of_calls_and_of_sessions_are_kept_alive(
    tmp_path: Path, method: str
) -> None:
    """Also where the server sent half an event: nothing of it has passed yet."""
    gates = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    half = DONE[: len(DONE) // 2]

    def answer(_: Seen) -> Any:
        return [stream(), gates[0], half, gates[1], DONE[len(half) :], gates[2]]

    async with serve(tmp_path, McpServer(answer), QUICK) as one:
        reader, writer = await sent(one, method)
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(5):
            for gate in gates[:2]:
                assert await reader.readexactly(2 * len(BEAT)) == 2 * BEAT
                gate.set()
            said = chunk(DONE)
            rest = await reader.readuntil(said)
            assert not rest.removesuffix(said).replace(BEAT, b"")
            assert await reader.readexactly(len(BEAT)) == BEAT
            gates[2].set()
            assert (await reader.readuntil(b"0\r\n\r\n")).replace(BEAT, b"") == b"0\r\n\r\n"
        writer.close()
    assert outcomes(tmp_path) == ["completed"]


async def test_c17_an_answer_as_json_is_left_alone(tmp_path: Path) -> None:
    gate = asyncio.Event()
    raw = whole_reply(result("slow"))
    head, _, body = raw.partition(b"\r\n\r\n")
    talk = McpServer(lambda _: [head + b"\r\n\r\n", body[:5], gate, body[5:]])
    async with serve(tmp_path, talk, QUICK) as one:
        asked = asyncio.ensure_future(sse(one, wait_s=2.0))
        await asyncio.sleep(3 * EVERY_S)
        gate.set()
        got = await asked
    assert got.endswith(b"\r\n\r\n" + body)


#: Lets not a byte in: to its peer, the socket is gone (a classic BPF program, `ret 0`).
_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
_SO_ATTACH_FILTER = 26


def vanish(own: socket.socket) -> Any:
    """Cuts the wire: neither a byte nor a word of it is heard from this socket any more."""
    program = ctypes.create_string_buffer(_NOTHING)
    own.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program))
    )
    return program


@contextlib.asynccontextmanager
async def vanished(folder: Path, more: str) -> AsyncIterator[Whole]:
    """A whole sidecar, with a call whose client has gone from the network, silently."""
    talk = McpServer(lambda _: [stream(), b": hello\n\n", asyncio.Event()])
    async with serve(folder, talk, more) as one:
        own = socket.create_connection(("127.0.0.1", one.port))
        reader, writer = await sent(one, own=own)
        await reader.readuntil(b": hello\n\n\r\n")
        program = vanish(writer.get_extra_info("socket"))
        yield one
        writer.close()
        del program


async def test_c17_a_client_that_vanished_is_noticed_and_its_outcome_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FrontDoor.__init__.__kwdefaults__, "write_wait_s", 0.5)
    async with vanished(tmp_path, QUICK):
        await until(lambda: outcomes(tmp_path) == ["aborted_by_client"], 10.0)
        await asyncio.sleep(0.3)
    assert outcomes(tmp_path) == ["aborted_by_client"], "once"


async def test_c17_without_comments_nobody_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: it is the comment that notices."""
    monkeypatch.setitem(FrontDoor.__init__.__kwdefaults__, "write_wait_s", 0.5)
    async with vanished(tmp_path, OFF):
        await asyncio.sleep(3.0)
        assert outcomes(tmp_path) == []
