"""B3 between requests: empty lines end with CR and LF there too, however a connection is cut into
pieces and wherever the request before has its end. B5: behind trailers there is no request."""

from __future__ import annotations

import asyncio
import random
import re
import time
from types import SimpleNamespace

import pytest
from proxy_wire_setup import OK, Door, answering, door, raw_upstream, upstream_of

from sidecar.proxy.exchange import Exchange
from sidecar.proxy.request_walk import RequestWalk

HOST = "Host: localhost\r\n"
GET = f"GET /up/get HTTP/1.1\r\n{HOST}\r\n".encode()
FIRST = {
    "no body": GET,
    "a length": f"POST /up/a HTTP/1.1\r\n{HOST}Content-Length: 4\r\n\r\na\r\nb".encode(),
    "a body that ends with CR": f"POST /up/b HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\n".encode()
    + b"a\r",
    "chunks": f"POST /up/c HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode()
    + b"8\r\n\r\n\r\n\r\n\r\n\r\n3;a=b\r\n\n\r\n\r\n0\r\n\r\n",
    "nothing": b"",
}
TRAILED = f"POST /up/d HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode() + (
    b"2\r\n0\r\r\n0\r\nX: a\r\nAuthorization: b\r\n\r\n"
)
ODD = [b"\r", b"\n", b"\r\r", b"\n\n", b"\r\n\r", b"\r\n\n", b"\r\r\n", b"\n\r\n"]
EMPTY = [b"", b"\r\n", b"\r\n\r\n", b"\r\n" * 9]


async def answer_all(exchange: Exchange) -> None:
    """Says what was asked, and what came with it."""
    body = await exchange.read_body(1 << 20, 5.0, lambda _: None)
    said = exchange.head.path.encode() + b"=" + body.hex().encode()
    await exchange.send(200, [], said)


async def said_to(front: Door, pieces: list[bytes], *, apart_s: float = 0.0) -> list[str]:
    """The statuses and bodies that are answered until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(apart_s)
        answer = b""
        try:
            async with asyncio.timeout(5):
                answer = await reader.read()
        except ConnectionError:
            pass
    finally:
        writer.close()
    heard = re.findall(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n([^H{]*)", answer, re.DOTALL)
    return [f"{status.decode()} {body.decode()}".strip() for status, body in heard]


LAST = f"GET /up/last HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode()
TRAILED_LAST = f"PUT /up/last HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n".encode()


def cut(sent: bytes, how: str, at: int) -> list[bytes]:
    if how == "at once":
        return [sent]
    if how == "byte by byte":
        return [sent[one : one + 1] for one in range(len(sent))]
    return [sent[: at + 1], sent[at + 1 :]]


def as_far_as_it_is_read(odd: bytes) -> bytes:
    """With the first byte that is wrong: what is sent to a connection that ends takes its last
    answer away."""
    size = next(size for size in range(1, len(odd) + 1) if not (b"\r\n" * 9).startswith(odd[:size]))
    return odd[:size]


@pytest.mark.parametrize("how", ["at once", "byte by byte", "within the line end"])
@pytest.mark.parametrize("first", FIRST)
async def test_b3_a_line_before_a_request_ends_with_cr_and_lf(first: str, how: str) -> None:
    begin = FIRST[first]
    apart_s = 0.02 if how == "within the line end" else 0.0
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        for odd in ODD:
            before = upstream.bytes_in
            sent = begin + (odd + LAST if how == "at once" else as_far_as_it_is_read(odd + LAST))
            pieces = cut(sent, how, len(begin))
            heard = await said_to(front, pieces, apart_s=apart_s)
            assert [one[:3] for one in heard] == (["200"] if begin else []) + ["400"], odd
            assert bool(begin) is (upstream.bytes_in > before)
        assert b"/last" not in b"".join(upstream.received)
        for empty in EMPTY:
            pieces = cut(begin + empty + LAST, how, len(begin))
            heard = await said_to(front, pieces, apart_s=apart_s)
            assert [one[:3] for one in heard] == ["200"] * (1 + bool(begin)), empty
        assert b"/last" in b"".join(upstream.received), "control"


HANDSHAKE = (
    f"GET /up/last HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


@pytest.mark.parametrize("first", FIRST)
async def test_b3_nor_is_one_behind_it_that_asks_for_an_upgrade(first: str) -> None:
    """What comes behind such a request is none, what comes before it is."""
    begin = FIRST[first]
    seen: list[str] = []

    async def note(exchange: Exchange) -> None:
        seen.append(exchange.head.path)
        await answer_all(exchange)

    async with door(handler=note) as front:
        for odd in ODD:
            heard = await said_to(front, [begin + odd + HANDSHAKE])
            assert [one[:3] for one in heard] == (["200"] if begin else []) + ["400"], odd
        assert "/last" not in seen
        for empty in EMPTY:
            for behind in (b"", b"\n", b"\r\r", b"\x81\x80"):
                seen.clear()
                front.refusals.clear()
                await said_to(front, [empty + HANDSHAKE + behind])
                refused = front.refusals
                assert (seen, refused) == (([], ["bad_handshake"]) if behind else (["/last"], []))


@pytest.mark.parametrize("how", ["at once", "byte by byte", "within the trailers"])
@pytest.mark.parametrize("first", FIRST)
async def test_b5_behind_trailers_nothing_is_a_request(first: str, how: str) -> None:
    """The parser would make the last of them a header of what comes next, whoever asks for that:
    where something in front shares its connections, another client."""
    begin = FIRST[first] + TRAILED
    apart_s = 0.02 if how == "within the trailers" else 0.0
    # What is sent to a connection that ends may take its last answer away.
    more = (LAST, b"\r\n" + LAST, b"\n", HANDSHAKE, GET[:-2]) if how != "byte by byte" else ()
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        for behind in (b"", *more):
            heard = await said_to(front, cut(begin + behind, how, len(begin) - 5), apart_s=apart_s)
            assert [one[:3] for one in heard] == ["200"] * (1 + bool(FIRST[first])), behind
        seen = b"".join(upstream.received)
    assert seen.count(b"/d HTTP/1.1") == 1 + len(more)
    assert b"/last" not in seen
    assert b"authorization" not in seen.lower()
    assert not front.refusals


async def test_b5_the_reply_to_a_request_with_trailers_says_that_it_is_the_last() -> None:
    async with door(handler=answer_all) as front:
        for pieces in ([TRAILED], [TRAILED[:-40], TRAILED[-40:]]):
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.02)
            async with asyncio.timeout(5):
                assert b"\r\nConnection: close\r\n" in await reader.read()
            writer.close()


def one_request(chance: random.Random, number: int) -> tuple[bytes, bytes]:
    """A request, and its body."""
    path = f"/up/{number}"
    body = bytes(chance.choices(b"\r\n0a;: ", k=chance.choice([0, 1, 3, 30, 500])))
    kind = chance.randrange(3)
    version, more = chance.choice([("1.1", ""), ("1.0", "Connection: keep-alive\r\n")])
    if kind == 0:
        return f"GET {path} HTTP/{version}\r\n{HOST}{more}\r\n".encode(), b""
    if kind == 1:
        head = f"POST {path} HTTP/{version}\r\n{HOST}{more}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body, body
    sent = f"POST {path} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode()
    at = 0
    while at < len(body):
        size = chance.choice([1, 2, 7, 100])
        piece = body[at : at + size]
        said = chance.choice([b"%x", b"%X", b"000%x"]) % len(piece)
        said += chance.choice([b"", b";x", b";x=y", b';x="0 a"'])
        sent += b"%b\r\n%b\r\n" % (said, piece)
        at += size
    sent += chance.choice([b"0", b"000", b"0;x=y"]) + b"\r\n\r\n"
    return sent, body


async def test_b3_whatever_is_sent_is_read_as_it_was_meant_and_an_odd_line_ends_it() -> None:
    """More requests than the parser holds at a time, in whatever pieces."""
    async with door(handler=answer_all) as front:
        for seed in range(120):
            chance = random.Random(seed)
            count = chance.choice([1, 2, 5, 40, 90])
            odd_before = chance.choice([None, chance.randrange(count)])
            sent, wanted = b"", []
            for number in range(count):
                request, body = one_request(chance, number)
                sent += chance.choice(EMPTY)
                if number == odd_before:
                    sent += as_far_as_it_is_read(chance.choice(ODD) + b"G")
                    break
                sent += request
                wanted.append(f"200 /{number}={body.hex()}")
            if odd_before is None:
                trailers = chance.choice([b"", b"X: 0\r\n", b"X:\r\nY: 0\r\n"])
                sent += TRAILED_LAST + trailers + b"\r\n" if trailers else LAST
            wanted.append("200 /last=" if odd_before is None else "400")
            pieces, at = [], 0
            while at < len(sent):
                size = chance.choice([1, 2, 3, 50, 1000, 10_000, 100_000])
                if len(pieces) > 200:
                    size = 1 << 20
                pieces.append(sent[at : at + size])
                at += size
            assert await said_to(front, pieces) == wanted, seed


CHUNKED = SimpleNamespace(chunked=True)


class Body:
    """As the parser tells of it."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self.has_ended = False

    def is_eof(self) -> bool:
        return self.has_ended


def test_b3_a_parser_that_ends_a_body_elsewhere_is_not_believed() -> None:
    head = b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for ended, chunks, is_well in (
        (True, b"1\r\na\r\n0\r\n\r\n", True),
        (False, b"1\r\na\r\n0\r\n\r\n", True),  # it is behind
        (True, b"1\r\na\r\n", False),
        (True, b"1\r\na\r\n0\r\n", False),
        (True, b"zz\r\na\r\n0\r\n\r\n", False),
    ):
        body = Body()
        body.has_ended = ended
        assert (RequestWalk().follows(head + chunks, [(CHUNKED, body)]) is None) is is_well, chunks


def test_b4_following_costs_no_more_where_lines_and_chunks_crowd() -> None:
    """64 KiB of each: what the parser itself takes for them is several milliseconds."""
    begun = time.thread_time()
    walk = RequestWalk()
    assert walk.follows(b"\r\n" * 32_000, []) is None
    body = Body()
    head = b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for line in (b"0" * 32_000, b"1;" + b"x" * 32_000):
        walk = RequestWalk()
        assert walk.follows(head + line, [(CHUNKED, body)]) is None
        for _ in range(4_000):
            assert walk.follows(line[-1:], []) is None
        for piece in (b"\r", b"\n", b"b\r\n0\r\n\r"):
            assert walk.follows(piece, []) is None
        body.has_ended = True
        # Behind a size of nought those were trailers.
        assert walk.follows(b"\n", []) == (0 if walk.has_trailers else None), "as the parser says"
        assert walk.has_trailers is (line[:1] == b"0")
        assert walk.follows(b"\n", []) == 0, "control"
        body = Body()
    walk = RequestWalk()
    assert walk.follows(head + b"1\r\na\r\n" * 11_000, [(CHUNKED, body)]) is None
    assert time.thread_time() - begun < 0.25
