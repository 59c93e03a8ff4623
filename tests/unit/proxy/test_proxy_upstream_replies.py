"""Replies as they may come and as they must not, byte by byte, through every leg and event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from proxy_wire_setup import (
    OK,
    Conversation,
    every_leg,
    made_leg,
    raw_upstream,
    read_request,
    upstream_of,
)

from sidecar.errors import Refused
from sidecar.proxy.upstream import Reply, UpstreamLeg

__all__ = ["every_leg"]
pytestmark = pytest.mark.usefixtures("every_leg")

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

#: method, reply, status, body, whether the connection serves again.
GOOD: dict[str, tuple[str, bytes, int, bytes, bool]] = {
    "length": ("GET", OK, 200, b"ok", True),
    "length_zero": ("POST", HEAD + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "length_padded": ("GET", HEAD + b"Content-Length:\t 2 \r\n\r\nok", 200, b"ok", True),
    "chunked": ("GET", CHUNKED + b"1\r\no\r\n01\r\nk\r\n0\r\n\r\n", 200, b"ok", True),
    "chunked_capital": (
        "GET", HEAD + b"TRANSFER-ENCODING: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok", True,
    ),
    "chunk_extension": ("GET", CHUNKED + b"2;a=\"b\"\r\nok\r\n0;c\r\n\r\n", 200, b"ok", True),
    "until_close": ("GET", HEAD + b"Connection: close\r\n\r\nok", 200, b"ok", False),
    "until_close_unsaid": ("GET", HEAD + b"\r\nok", 200, b"ok", False),
    "http_1_0": ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    "close_with_length": (
        "GET", HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False,
    ),
    "no_reason": ("GET", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    "no_content": ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "not_modified": ("GET", b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
    "head_length": ("HEAD", HEAD + b"Content-Length: 5000\r\n\r\n", 200, b"", True),
    "head_chunked": ("HEAD", CHUNKED, 200, b"", True),
    "interim": ("GET", INTERIM * 8 + OK, 200, b"ok", True),
    "interim_continue": ("POST", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True),
    "error": ("GET", b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nok", 500, b"ok", True),
}  # fmt: skip

#: aiohttp's parser gives what stood behind one body as headers of the next reply.
GOOD_FOR_LEAN: dict[str, tuple[str, bytes, int, bytes, bool]] = {
    "trailers": ("GET", CHUNKED + b"2\r\nok\r\n0\r\nEvil: 1\r\n\r\n", 200, b"ok", True),
    "trailers_many": (
        "GET", CHUNKED + b"2\r\nok\r\n0\r\n" + b"Evil: 1\r\n" * 1000 + b"\r\n", 200, b"ok", True,
    ),
    "no_content_with_length": (
        "GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", 204, b"", False,
    ),
}  # fmt: skip

#: What no leg takes for a reply.
BAD: dict[str, bytes] = {
    "space_before_colon": HEAD + b"Content-Length : 2\r\n\r\nok",
    "no_name": HEAD + b": a\r\nContent-Length: 2\r\n\r\nok",
    "no_colon": HEAD + b"X-A\r\nContent-Length: 2\r\n\r\nok",
    "name_not_ascii": HEAD + b"X-\xc3\xa4: a\r\nContent-Length: 2\r\n\r\nok",
    "length_plus": HEAD + b"Content-Length: +2\r\n\r\nok",
    "length_minus": HEAD + b"Content-Length: -2\r\n\r\nok",
    "length_hex": HEAD + b"Content-Length: 0x2\r\n\r\nok",
    "length_two_words": HEAD + b"Content-Length: 2 2\r\n\r\nok",
    "length_empty": HEAD + b"Content-Length:\r\n\r\nok",
    "length_endless": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nok",
    "chunked_and_length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
    b"2\r\nok\r\n0\r\n\r\n",
    "chunked_twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n0\r\n\r\n",
    "chunked_chunked": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding_identity": HEAD + b"Transfer-Encoding: identity\r\n\r\nok",
    "coding_unknown": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding_vertical_tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "status_long": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status_words": b"HTTP/1.1 OK 200\r\nContent-Length: 2\r\n\r\nok",
    "http_0_9": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "http_3_7": b"HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "headers_many": HEAD + b"X: y\r\n" * 300 + b"Content-Length: 2\r\n\r\nok",
    "reason_endless": b"HTTP/1.1 200 " + b"x" * 100_000,
    "interim_nine": INTERIM * 9 + OK,
    "interim_endless": b"HTTP/1.1 103 Early Hints\r\nX: " + b"a" * 100_000,
    "interim_switch": INTERIM + b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
}
#: What aiohttp's parser takes, and the lean leg does not.
BAD_FOR_LEAN: dict[str, bytes] = {
    "bare_lf_in_value": HEAD + b"X-A: a\nContent-Length: 2\r\n\r\nok",
    "bare_lf_ends_lines": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "empty_line_first": b"\r\n" + OK,
    "folded": HEAD + b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "rtsp": b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "rtsp_behind_interim": INTERIM + b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "interim_with_length": b"HTTP/1.1 103 X\r\nContent-Length: 2\r\n\r\nok" + OK,
    "status_99": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
}
#: Bodies that break off or go wrong behind a good head.
TORN: dict[str, bytes] = {
    "length_short": HEAD + b"Content-Length: 10\r\n\r\nshort",
    "chunk_short": CHUNKED + b"5\r\nsho",
    "no_last_chunk": CHUNKED + b"5\r\nshort\r\n",
    "no_last_line": CHUNKED + b"5\r\nshort\r\n0\r\n",
    "size_no_number": CHUNKED + b"2\r\nok\r\nzz\r\n",
    "size_prefixed": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "size_minus": CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",
    "size_overflow": CHUNKED + b"ffffffffffffffffff\r\nok\r\n0\r\n\r\n",
    "chunk_too_long": CHUNKED + b"2\r\nokk\r\n0\r\n\r\n",
    "bare_lf": CHUNKED + b"2\nok\n0\n\n",
}
TORN_FOR_LEAN: dict[str, bytes] = {
    "extension_endless": CHUNKED + b"2;" + b"x" * 1_000_000,
    "trailers_endless": CHUNKED + b"2\r\nok\r\n0\r\n" + b"X-Late: 1\r\n" * 100_000,
    "trailer_endless": CHUNKED + b"2\r\nok\r\n0\r\nX: " + b"x" * 1_000_000,
    "length_in_trailer": CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 3\r\n\r\n",
}


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end on one of the event loops."""
    make = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def to_its_end(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(work)

    return to_its_end


def replying(reply: bytes, *, pieces: int = 1, stays: bool = True) -> Conversation:
    """Answers each request with `reply`, in that many writes; then closes if it does not stay."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            size = max(1, -(-len(reply) // pieces))
            for at in range(0, len(reply), size):
                writer.write(reply[at : at + size])
                await writer.drain()
                if pieces > 1:
                    await asyncio.sleep(0.0005)
            if not stays:
                return

    return talk


@contextlib.asynccontextmanager
async def leg() -> AsyncIterator[UpstreamLeg]:
    made = made_leg()
    try:
        yield made
    finally:
        await made.close()


async def whole(reply: Reply) -> bytes:
    try:
        return b"".join([chunk async for chunk in reply.chunks])
    finally:
        reply.close()


async def _is_read(case: str, pieces: int) -> None:
    method, wire, status, body, serves_again = (GOOD | GOOD_FOR_LEAN)[case]
    async with raw_upstream(replying(wire, pieces=pieces, stays=serves_again)) as up, leg() as one:
        for _ in range(2):
            reply = await one.send(upstream_of(up.port), method, "/x", [], b"")
            assert (reply.status, await whole(reply)) == (status, body)
            assert "Evil" not in dict(reply.headers)
        assert len(up.received) == (1 if serves_again else 2)


async def _is_refused(wire: bytes) -> None:
    for pieces in (1, 7):
        talk = replying(wire, pieces=pieces, stays=False)
        async with raw_upstream(talk) as up, leg() as one:
            for calls in (1, 2):
                with pytest.raises(Refused) as caught:
                    reply = await one.send(upstream_of(up.port), "GET", "/x", [], b"")
                    await whole(reply)
                assert caught.value.code == "upstream_broken"
                assert len(up.received) == calls, "the connection was used again"


@pytest.mark.parametrize("pieces", [1, 1000])
@pytest.mark.parametrize("case", GOOD)
def test_a_good_reply_is_read_however_it_is_cut(run: Run, case: str, pieces: int) -> None:
    run(_is_read(case, pieces))


@pytest.mark.parametrize("every_leg", ["lean"], indirect=True)
@pytest.mark.parametrize("pieces", [1, 1000])
@pytest.mark.parametrize("case", GOOD_FOR_LEAN)
def test_what_the_lean_leg_alone_reads_well(run: Run, case: str, pieces: int) -> None:
    run(_is_read(case, pieces))


@pytest.mark.parametrize("case", BAD)
def test_b21_a_bad_reply_is_refused_and_its_connection_dropped(run: Run, case: str) -> None:
    run(_is_refused(BAD[case]))


@pytest.mark.parametrize("case", TORN)
def test_b21_a_body_that_goes_wrong_never_ends_well(run: Run, case: str) -> None:
    run(_is_refused(TORN[case]))


@pytest.mark.parametrize("every_leg", ["lean"], indirect=True)
@pytest.mark.parametrize("case", [*BAD_FOR_LEAN, *TORN_FOR_LEAN])
def test_b21_the_lean_leg_is_stricter_still(run: Run, case: str) -> None:
    run(_is_refused((BAD_FOR_LEAN | TORN_FOR_LEAN)[case]))


#: What comes first, and what then comes over and over.
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "headers": (HEAD, b"X-A: b\r\n" * 1000),
    "header": (HEAD + b"X-A: ", b"b" * 8000),
    "name": (HEAD + b"X", b"b" * 8000),
    "interim": (b"", INTERIM * 100),
    "nothing": (b"", b"x" * 8000),
}
ENDLESS_FOR_LEAN: dict[str, tuple[bytes, bytes]] = {
    "reason": (b"HTTP/1.1 200 ", b"b" * 8000),
    "empty_lines": (b"", b"\r\n" * 4000),
    "interim_header": (b"HTTP/1.1 103 Early Hints\r\nX: ", b"a" * 8000),
    "extension": (CHUNKED + b"2;", b"x" * 8000),
    "zeros": (CHUNKED, b"0" * 8000),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"X-Late: 1\r\n" * 1000),
    "trailer": (CHUNKED + b"2\r\nok\r\n0\r\nX: ", b"x" * 8000),
}
#: Socket buffers on both sides, and what one read may hold beyond the limit.
ENDLESS_BYTES_MAX = 12 << 20


async def _is_cut_short(first: bytes, over_and_over: bytes) -> None:
    """The upstream never stops by itself: that it can is what other cases are about."""
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(first)
        while True:
            writer.write(over_and_over)
            await writer.drain()
            sent += len(over_and_over)
            await asyncio.sleep(0)

    async with raw_upstream(talk) as up, leg() as one, asyncio.timeout(10):
        with pytest.raises(Refused) as caught:
            await whole(await one.send(upstream_of(up.port, response_s=8.0), "GET", "/x", [], b""))
        assert caught.value.code == "upstream_broken"
        assert sent < ENDLESS_BYTES_MAX


@pytest.mark.parametrize("case", ENDLESS)
def test_b21_what_never_ends_is_cut_short(run: Run, case: str) -> None:
    run(_is_cut_short(*ENDLESS[case]))


@pytest.mark.parametrize("every_leg", ["lean"], indirect=True)
@pytest.mark.parametrize("case", ENDLESS_FOR_LEAN)
def test_b21_the_lean_leg_cuts_more_short(run: Run, case: str) -> None:
    run(_is_cut_short(*ENDLESS_FOR_LEAN[case]))
