"""The front door against raw bytes: nothing odd passes, nobody gets a traceback."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from proxy_wire_setup import (
    OK,
    Door,
    answering,
    door,
    limits_of,
    raw_upstream,
    request,
    status_of,
    until,
    upstream_of,
)

from sidecar.errors import StartRefused
from sidecar.proxy import server
from sidecar.proxy.exchange import Exchange

H = "Host: localhost\r\n"
CHUNKED = H + "Transfer-Encoding: chunked\r\n"

MALFORMED = {
    "b1_length_and_chunked": f"POST /up HTTP/1.1\r\n{CHUNKED}Content-Length: 3\r\n\r\n0\r\n\r\n",
    "b1_two_lengths": f"POST /up HTTP/1.1\r\n{H}Content-Length: 2\r\nContent-Length: 3\r\n\r\nab",
    "b1_same_length_twice": f"POST /up HTTP/1.1\r\n{H}Content-Length: 2\r\n"
    "Content-Length: 2\r\n\r\nab",
    "b1_length_list": f"POST /up HTTP/1.1\r\n{H}Content-Length: 2, 2\r\n\r\nab",
    "b1_length_plus": f"POST /up HTTP/1.1\r\n{H}Content-Length: +2\r\n\r\nab",
    "b1_length_hex": f"POST /up HTTP/1.1\r\n{H}Content-Length: 0x2\r\n\r\nab",
    "b1_length_negative": f"POST /up HTTP/1.1\r\n{H}Content-Length: -2\r\n\r\nab",
    "b2_xchunked": f"POST /up HTTP/1.1\r\n{H}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "b2_chunked_identity": f"POST /up HTTP/1.1\r\n{H}Transfer-Encoding: chunked, identity\r\n\r\n0"
    "\r\n\r\n",
    "b2_gzip_chunked": f"POST /up HTTP/1.1\r\n{H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "b2_twice": f"POST /up HTTP/1.1\r\n{CHUNKED}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "b2_http_1_0": f"POST /up HTTP/1.0\r\n{CHUNKED}\r\n0\r\n\r\n",
    "b3_bare_lf": "GET /up HTTP/1.1\nHost: localhost\n\n",
    "b3_obs_fold": f"GET /up HTTP/1.1\r\n{H}X-A: a\r\n b\r\n\r\n",
    "b3_nul": f"GET /up HTTP/1.1\r\n{H}X-A: a\0b\r\n\r\n",
    "b3_control": f"GET /up HTTP/1.1\r\n{H}X-A: a\x01b\r\n\r\n",
    "b3_bare_cr": f"GET /up HTTP/1.1\r\n{H}X-A: a\rb\r\n\r\n",
    "b3_space_before_colon": f"GET /up HTTP/1.1\r\n{H}X-A : a\r\n\r\n",
    "b4_chunk_hex": f"POST /up HTTP/1.1\r\n{CHUNKED}\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "b4_chunk_extension_lf": f"POST /up HTTP/1.1\r\n{CHUNKED}\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "b4_chunk_too_long": f"POST /up HTTP/1.1\r\n{CHUNKED}\r\n3\r\nabcd\r\n0\r\n\r\n",
    "b4_chunk_size_overflow": f"POST /up HTTP/1.1\r\n{CHUNKED}\r\nfffffffffffffffff\r\nabc\r\n",
    "b6_absolute_form": f"GET http://evil/up HTTP/1.1\r\n{H}\r\n",
    "b6_authority_form": f"GET evil:443 HTTP/1.1\r\n{H}\r\n",
    "b6_asterisk": f"OPTIONS * HTTP/1.1\r\n{H}\r\n",
    "b6_no_slash": f"GET up HTTP/1.1\r\n{H}\r\n",
    "b6_double_slash": f"GET //evil/up HTTP/1.1\r\n{H}\r\n",
    "b6_fragment": f"GET /up#x HTTP/1.1\r\n{H}\r\n",
    "b7_no_host": "GET /up HTTP/1.1\r\n\r\n",
    "b7_no_host_on_1_0": "GET /up HTTP/1.0\r\n\r\n",
    "b7_two_hosts": f"GET /up HTTP/1.1\r\n{H}Host: evil\r\n\r\n",
    "b7_user_in_host": "GET /up HTTP/1.1\r\nHost: localhost@evil\r\n\r\n",
    "b8_http_0_9": "GET /up\r\n\r\n",
    "b8_http_0_9_token": f"GET /up HTTP/0.9\r\n{H}\r\n",
    "b8_http_1_2": f"GET /up HTTP/1.2\r\n{H}\r\n",
    "b8_http_2_0": f"GET /up HTTP/2.0\r\n{H}\r\n",
    "b8_preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "b8_tls_hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "a" * 40,
    "b9_dot_segments": f"GET /up/../x HTTP/1.1\r\n{H}\r\n",
    "b9_nul": f"GET /up/%00 HTTP/1.1\r\n{H}\r\n",
    "b11_connection_authorization": f"GET /up HTTP/1.1\r\n{H}Connection: Authorization\r\n"
    "Authorization: x\r\n\r\n",
    "b12_two_authorizations": f"GET /up HTTP/1.1\r\n{H}Authorization: a\r\nAuthorization: b\r\n"
    "\r\n",
    "b12_underscore": f"GET /up HTTP/1.1\r\n{H}X_Tenant: b\r\n\r\n",
    "lower_case_method": f"get /up HTTP/1.1\r\n{H}\r\n",
    "unknown_method": f"FROBNICATE /up HTTP/1.1\r\n{H}\r\n",
}

OTHERS = {
    "b7_foreign_host": ("GET /up HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "b13_gzip": (
        f"POST /up HTTP/1.1\r\n{H}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
        415,
    ),
    "b16_expectation": (f"POST /up HTTP/1.1\r\n{H}Expect: x\r\nContent-Length: 2\r\n\r\nab", 417),
    "b17_connect": (f"CONNECT evil:443 HTTP/1.1\r\n{H}\r\n", 501),
    "b17_h2c": (f"GET /up HTTP/1.1\r\n{H}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 501),
    "b17_websocket_with_body": (
        f"POST /up HTTP/1.1\r\n{H}Connection: upgrade\r\nUpgrade: websocket\r\n"
        "Content-Length: 2\r\n\r\nab",
        501,
    ),
    "trace": (f"TRACE /up HTTP/1.1\r\n{H}\r\n", 405),
    "b20_200_headers": (
        f"GET /up HTTP/1.1\r\n{H}" + "".join(f"X-{n}: 1\r\n" for n in range(200)) + "\r\n",
        431,
    ),
    "b20_long_line": (f"GET /up HTTP/1.1\r\n{H}X: {'a' * 9000}\r\n\r\n", 431),
    "b20_long_target": (f"GET /up/{'a' * 9000} HTTP/1.1\r\n{H}\r\n", 431),
    "b20_a_megabyte_of_headers": (
        f"GET /up HTTP/1.1\r\n{H}" + f"X-Y: {'a' * 4000}\r\n" * 250 + "\r\n",
        431,
    ),
}


async def _refused(raw: str, caplog: pytest.LogCaptureFixture) -> tuple[int, dict[str, object]]:
    """Status and problem of a refused request; the upstream saw nothing, the log is quiet."""
    caplog.set_level(logging.DEBUG)
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        answer = await front.ask(raw.encode("latin-1"))
        assert upstream.bytes_in == 0
        assert sum(front.front.malformed_total.values()) >= 1
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"connection: close" in head.lower()
        assert b"aegis-call-id" in head.lower()
        assert b"application/problem+json" in head
        assert status_of(await front.get()) == 200
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    return status_of(answer), json.loads(body)


@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed_requests_get_400_and_go_nowhere(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, problem = await _refused(MALFORMED[case], caplog)
    assert status == 400
    assert problem["status"] == 400
    assert problem["code"] in (
        "malformed_request",
        "ambiguous_header",
        "ambiguous_path",
        "body_incomplete",
    )


@pytest.mark.parametrize("case", OTHERS)
async def test_other_refusals_go_nowhere(case: str, caplog: pytest.LogCaptureFixture) -> None:
    raw, expected = OTHERS[case]
    status, problem = await _refused(raw, caplog)
    assert (status, problem["status"]) == (expected, expected)


async def test_b2_chunked_bodies_and_b5_trailers_arrive_without_the_trailers() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        answer = await front.ask(
            f"POST /up/x HTTP/1.1\r\n{CHUNKED}Trailer: X-Tenant\r\nConnection: close\r\n\r\n"
            "3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n"
            "Authorization: evil\r\nX-Tenant: evil\r\n\r\n".encode()
        )
        assert status_of(answer) == 200
        assert upstream.received[0].endswith(b"Content-Length: 5\r\n\r\nabcde")
        assert b"evil" not in upstream.received[0]
        assert b"railer" not in upstream.received[0]


async def test_b4_a_million_tiny_chunks_are_cut_at_the_limit() -> None:
    async with (
        raw_upstream(answering(OK)) as upstream,
        door(upstream_of(upstream.port, request_bytes=1000)) as front,
    ):
        raw = f"POST /up HTTP/1.1\r\n{CHUNKED}\r\n".encode() + b"1\r\na\r\n" * 20000
        answer = await front.ask(raw)
        assert status_of(answer) == 413
        assert upstream.bytes_in == 0


async def test_b4_a_body_that_is_mostly_framing_is_cut_off() -> None:
    head = f"POST /up HTTP/1.1\r\n{CHUNKED}\r\n".encode()
    floods = {
        "chunks of one byte": b"1\r\na\r\n",
        "extensions": b"1;" + b"e" * 200 + b"\r\na\r\n",
        "one extension without end": b"a=b;",
    }
    async with (
        raw_upstream(answering(OK)) as upstream,
        door(upstream_of(upstream.port, request_bytes=1 << 20)) as front,
    ):
        for unit in floods.values():
            for path in (b"/up", b"/nowhere"):
                begun = head.replace(b"/up", path) + (b"1;" if unit == b"a=b;" else b"")
                sent = await _sent_before_the_cut(front, begun, unit)
                assert sent < 8 << 20, (unit[:4], path)
        assert upstream.bytes_in == 0
        # positive control: small chunks of a body that is no flood pass
        whole = head + b"10\r\n" + b"a" * 16 + b"\r\n"
        answer = await front.ask(whole + (b"10\r\n" + b"a" * 16 + b"\r\n") * 1000 + b"0\r\n\r\n")
        assert status_of(answer) == 200


async def _sent_before_the_cut(front: Door, begun: bytes, unit: bytes) -> int:
    """How much a client that never stops gets rid of; 64 MiB if it is not cut off."""
    _, writer = await asyncio.open_connection("127.0.0.1", front.port)
    piece, sent = unit * (65536 // len(unit)), 0
    try:
        writer.write(begun)
        while sent < 64 << 20:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return sent


async def test_b9_the_bytes_of_the_target_arrive_as_they_were_sent() -> None:
    async with (
        raw_upstream(answering(OK)) as upstream,
        door(upstream_of(upstream.port, path="/base")) as front,
    ):
        await front.get("/up/a%41/caf%C3%a9/x%3bv=1/?q=%2e%2e/&q=+&r=a%20b;c")
        assert upstream.received[0].startswith(
            b"GET /base/a%41/caf%C3%a9/x%3bv=1/?q=%2e%2e/&q=+&r=a%20b;c HTTP/1.1\r\n"
        )
        await front.get("/up")
        assert upstream.received[0].count(b"GET /base HTTP/1.1\r\n") == 1


async def test_b11_b12_only_end_to_end_headers_arrive() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        lines = ["Authorization: Bearer agent", "Accept-Encoding: gzip", "User-Agent: test/1"]
        dropped = ["X-Hop: 1", "Keep-Alive: 5", "TE: trailers", "Proxy-Authorization: x"]
        dropped += ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "Forwarded: for=1.2.3.4"]
        dropped += [
            "X-HTTP-Method-Override: DELETE",
            "X-Original-URL: /admin",
            "X-Real-IP: 1.1.1.1",
        ]
        dropped += [
            "X-Rewrite-URL: /admin",
            "Aegis-Token: t",
            "Aegis-Run: r",
            "Proxy-Connection: x",
        ]
        raw = request("/up/x", *lines, *dropped, "Connection: close, X-Hop")
        assert status_of(await front.ask(raw)) == 200
        assert (
            bytes(upstream.received[0])
            == (
                f"GET /x HTTP/1.1\r\nHost: 127.0.0.1:{upstream.port}\r\n"
                "Authorization: Bearer agent\r\nAccept-Encoding: gzip\r\nUser-Agent: test/1\r\n\r\n"
            ).encode()
        )


async def test_b15_bodies_that_are_too_large_or_too_short() -> None:
    async with (
        raw_upstream(answering(OK)) as upstream,
        door(upstream_of(upstream.port, request_bytes=10)) as front,
    ):
        head = f"POST /up HTTP/1.1\r\n{H}Content-Length: "
        assert status_of(await front.ask(f"{head}11\r\n\r\n12345678901".encode())) == 413
        assert status_of(await front.ask(f"{head}99999999999\r\n\r\nabc".encode())) == 413
        reader, writer = await front.open()
        writer.write(f"{head}5\r\n\r\nabc".encode())
        await asyncio.sleep(0.05)
        writer.close()
        assert upstream.bytes_in == 0
        assert (
            status_of(await front.ask(f"{head}10\r\nConnection: close\r\n\r\n{'a' * 10}".encode()))
            == 200
        )
        assert await reader.read() == b""


async def test_b15_a_body_that_ends_early_is_refused_to_who_still_listens() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        reader, writer = await front.open()
        writer.write(f"POST /up HTTP/1.1\r\n{H}Content-Length: 10\r\n\r\nab".encode())
        await asyncio.sleep(0.05)
        writer.write_eof()
        async with asyncio.timeout(2):
            answer = await reader.read()
        assert status_of(answer) == 400
        assert b"body_incomplete" in answer
        assert front.ended == ["body_incomplete"]
        assert upstream.bytes_in == 0


async def test_b15_a_head_that_breaks_off_is_counted() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        _, writer = await front.open()
        writer.write(b"POST /up HTTP/1.1\r\nHost: loc")
        await asyncio.sleep(0.05)
        assert front.front.turned_away_total["head_incomplete"] == 0
        writer.close()
        await until(lambda: front.front.turned_away_total["head_incomplete"] == 1)
        assert upstream.bytes_in == 0


async def test_b15_b19_a_body_that_does_not_come_is_a_408() -> None:
    async with (
        raw_upstream(answering(OK)) as upstream,
        door(upstream_of(upstream.port), limits=limits_of(body_wait_s=0.1)) as front,
    ):
        raw = f"POST /up HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nabc".encode()
        answer = await front.ask(raw)
        assert status_of(answer) == 408
        assert b"request_timeout" in answer
        assert upstream.bytes_in == 0


async def test_b16_continue_is_sent_only_when_the_body_is_wanted() -> None:
    async with (
        raw_upstream(answering(OK)) as upstream,
        door(upstream_of(upstream.port, request_bytes=10)) as front,
    ):
        reader, writer = await front.open()
        writer.write(
            f"POST /up HTTP/1.1\r\n{H}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode()
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert b"xpect" not in upstream.received[0]
        writer.close()
        for lines in ("Content-Length: 11", "Content-Length: 3\r\nX_Y: 1"):
            answer = await front.ask(
                f"POST /up HTTP/1.1\r\n{H}Expect: 100-continue\r\n{lines}\r\n\r\n".encode()
            )
            assert status_of(answer) in (400, 413)
            assert b"100 Continue" not in answer


async def test_a_broken_chunk_after_the_head_ends_the_wait_for_the_body() -> None:
    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        reader, writer = await front.open()
        writer.write(f"POST /up HTTP/1.1\r\n{CHUNKED}\r\n3\r\nabc\r\n".encode())
        await asyncio.sleep(0.05)
        writer.write(b"zz\r\n")
        async with asyncio.timeout(1):
            answer = await reader.read()
        assert status_of(answer) == 400
        assert b"body_incomplete" in answer
        assert answer.count(b"HTTP/1.1") == 1
        assert upstream.bytes_in == 0
        writer.close()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.send(200, [], exchange.head.path.encode())

    async with door(handler=echo) as front:
        raw = b"".join(request(f"/up/{number}") for number in range(100))
        answer = await front.ask(raw + request("/up/last", "Connection: close"))
        assert answer.count(b"HTTP/1.1 200 OK") == 101
        assert answer.index(b"/7") < answer.index(b"/42") < answer.index(b"/last")


async def test_a_handler_that_fails_gives_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(exchange: Exchange) -> None:
        raise RuntimeError("secret-detail")

    async with door(handler=broken) as front:
        answer = await front.get()
        assert status_of(answer) == 503
        assert b"secret-detail" not in answer
        assert b"internal_error" in answer
    assert "secret-detail" in caplog.text


async def test_the_c_parser_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    server.require_c_parser()
    monkeypatch.setattr(
        server.aiohttp.http_parser,
        "HttpRequestParser",
        server.aiohttp.http_parser.HttpRequestParserPy,
    )
    with pytest.raises(StartRefused, match="C parser"):
        server.require_c_parser()


async def test_a_fault_of_ours_before_a_request_is_told_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> Exchange:
        raise RuntimeError("a fault")

    async with raw_upstream(answering(OK)) as upstream, door(upstream_of(upstream.port)) as front:
        with monkeypatch.context() as patch:
            patch.setattr("sidecar.proxy.connection.Exchange", breaks)
            async with asyncio.timeout(2):
                assert await front.get() == b""
        assert "a connection could not be served" in caplog.text
        assert status_of(await front.get()) == 200, "positive control"
