"""WebSockets through a whole sidecar: judged at the handshake, recorded once, held to limits."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from aiohttp import (
    ClientConnectionError,
    ClientSession,
    ClientWebSocketResponse,
    WSMsgType,
    WSServerHandshakeError,
    web,
)
from proxy_whole_setup import Whole, receipts, whole
from proxy_wire_setup import raw_upstream, read_request, until, upstream_of
from websocket_setup import ALLOW, POLICIES, TOOLS, echo, passed_to, served, websocket_server

from sidecar.model import OutcomeKind
from sidecar.proxy import websocket_relay
from sidecar.proxy.upstream import Switched
from sidecar.proxy.websocket_handshake import accept_of
from sidecar.proxy.websocket_relay import Relay
from sidecar.telemetry.counters import WebSocketCounters

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
AGREED = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Accept": accept_of(KEY),
}


def live(proxy: Whole, path: str = "/api/live") -> str:
    return f"{proxy.sidecar.data_url}{path}"


def outcomes(folder: Path) -> list[tuple[str, int | None]]:
    return [
        (one["outcome"], one["http_status"]) for one in receipts(folder) if one["kind"] == "outcome"
    ]


def kinds(folder: Path) -> list[str]:
    return [one["kind"] for one in receipts(folder)]


async def opened(proxy: Whole, headers: dict[str, str] | None = None) -> Any:
    """A raw connection on which the handshake was sent, and the head of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    lines = [f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}"]
    lines += [f"{name}: {value}" for name, value in (headers or HANDSHAKE).items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


async def test_what_is_said_comes_through_and_is_recorded_once(tmp_path: Path) -> None:
    recorded: list[list[str]] = []

    async def talk(socket: web.WebSocketResponse, request: web.Request) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "aegis.db")) as store:
            recorded.append([kind for (kind,) in store.execute("SELECT kind FROM receipts")])
        await echo(socket, request)

    async with served(tmp_path, talk, protocols=("b", "a")) as (proxy, server, client):
        async with client.ws_connect(live(proxy), protocols=("a", "c")) as socket:
            assert socket.protocol == "a"
            for size in (0, 1, 125, 126, 65_535, 65_536, 1 << 20):
                await socket.send_bytes(b"x" * size)
                assert await socket.receive_bytes() == b"x" * size
            await socket.send_str("grüße")
            assert await socket.receive_str() == "grüße"
            assert await proxy.metric("aegis_websockets_ended_total") == {}
        await until(lambda: bool(server.closed))
        assert server.closed == [1000]
        passed = await proxy.metric("aegis_websocket_bytes_total")
        assert passed['{sender="agent"}'] > passed['{sender="upstream"}'] > 1 << 20
        await until(lambda: kinds(tmp_path)[-1] == "outcome")
        assert await proxy.metric("aegis_websockets_ended_total") == {'{cause="closed"}': 1}
    assert recorded == [["intent"]], "the intent is durable before the handshake is forwarded"
    assert outcomes(tmp_path) == [("completed", 101)]
    request = server.requests[0]
    assert request.headers["Sec-WebSocket-Protocol"] == "a,c"
    assert "Aegis-Call-Id" not in request.headers


async def test_no_extension_gets_through(tmp_path: Path) -> None:
    """Else a limit on what passes would say nothing of what it becomes."""
    async with (
        served(tmp_path, compress=True) as (proxy, server, client),
        client.ws_connect(live(proxy), compress=15) as socket,
    ):
        assert socket.compress == 0
        await socket.send_str("a" * 1000)
        assert await socket.receive_str() == "a" * 1000
        assert "Sec-WebSocket-Extensions" not in server.requests[0].headers
    async with (
        websocket_server(compress=True) as server,
        ClientSession() as client,
        client.ws_connect(f"http://127.0.0.1:{server.port}/live", compress=15) as socket,
    ):
        assert socket.compress == 15, "control: without the sidecar both agree to it"


async def test_a_refused_handshake_reaches_nobody(tmp_path: Path) -> None:
    rules = "policy: none\nrules:\n  - {id: none, effect: deny, tools: api/live}\n"
    policies = {"tools.yaml": TOOLS, "rules.yaml": rules}
    async with served(tmp_path, policies=policies) as (proxy, server, client):
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(live(proxy))
        assert refused.value.status == 403
        assert server.requests == []
        assert proxy.arrived == b""
    assert kinds(tmp_path) == ["refusal"]


async def test_b17_only_a_route_that_says_so_is_upgraded(tmp_path: Path) -> None:
    async with served(tmp_path) as (proxy, _, client):
        for path in ("/api/plain", "/api/elsewhere", "/mcp"):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(live(proxy, path))
            assert refused.value.status == 501
        assert proxy.arrived == b""
        answer = await proxy.ask("GET", "/api/plain")
        assert (answer.status, answer.body) == (200, b"plain")
    assert kinds(tmp_path) == ["refusal"] * 3 + ["intent", "outcome"]


async def test_read_only_policies_do_not_take_it_for_a_read(tmp_path: Path) -> None:
    """It is opened by a GET, and what goes through it may be anything."""
    rules = "policy: reads\nrules:\n  - {id: reads, effect: allow, tools: '*', mutates: false}\n"
    policies = {"tools.yaml": TOOLS, "rules.yaml": rules}
    async with served(tmp_path, policies=policies) as (proxy, _, client):
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(live(proxy))
        assert refused.value.status == 403
        assert (await proxy.ask("GET", "/api/plain")).status == 200


@pytest.mark.parametrize(
    "masked", ["{redact: {response: [body.a]}}", "{redact: {request: [card_number]}}"]
)
async def test_what_is_masked_cannot_be_asked_of_frames(tmp_path: Path, masked: str) -> None:
    rules = f"{ALLOW}  - {{id: mask, tools: api/live, obligations: {masked}}}\n"
    policies = {"tools.yaml": TOOLS, "rules.yaml": rules}
    async with served(tmp_path, policies=policies) as (proxy, _, client):
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(live(proxy))
        assert refused.value.status == 403
        assert proxy.arrived == b""
    (refusal,) = receipts(tmp_path)
    assert (refusal["kind"], refusal["outcome"]) == ("refusal", "frames_unchecked")


BAD = {
    "another accept": {"Sec-WebSocket-Accept": accept_of("AAAAAAAAAAAAAAAAAAAAAA==")},
    "no accept": {"Sec-WebSocket-Accept": None},
    "another protocol": {"Upgrade": "h2c"},
    "no Upgrade": {"Upgrade": None},
    "no Connection": {"Connection": "keep-alive"},
    "a subprotocol nobody offered": {"Sec-WebSocket-Protocol": "chat"},
    "an extension nobody offered": {"Sec-WebSocket-Extensions": "permessage-deflate"},
    "a body": {"Content-Length": "2"},
    "chunks": {"Transfer-Encoding": "chunked"},
}


def answer_of(headers: dict[str, str | None]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


async def test_an_agreement_to_anything_else_is_none(tmp_path: Path) -> None:
    cases = iter(["control", *BAD])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        said: dict[str, str | None] = {**AGREED, **BAD.get(next(cases), {})}
        writer.write(answer_of(said) + b"\x82\x02ok")
        await reader.read()

    async with whole(tmp_path, talk, POLICIES) as proxy:
        for number, case in enumerate(["control", *BAD]):
            reader, writer, head = await opened(proxy)
            status = b"101" if case == "control" else b"502"
            assert head.startswith(b"HTTP/1.1 %b " % status), case
            if case == "control":
                assert await reader.readexactly(4) == b"\x82\x02ok", "frames right behind the 101"
            writer.close()
            await until(lambda: len(outcomes(tmp_path)) == number + 1)  # noqa: B023
    ended = [kind for kind, _ in outcomes(tmp_path)]
    assert ended == ["aborted_by_client"] + ["upstream_error"] * len(BAD)


async def test_who_speaks_another_version_is_told_ours(tmp_path: Path) -> None:
    async with served(tmp_path) as (proxy, _, _client):
        _, writer, head = await opened(proxy, {**HANDSHAKE, "Sec-WebSocket-Version": "8"})
        writer.close()
        assert head.startswith(b"HTTP/1.1 400 ") and b"\r\nSec-WebSocket-Version: 13\r\n" in head


async def test_an_ordinary_answer_is_passed_on(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope")
        await reader.read()

    async with whole(tmp_path, talk, POLICIES) as proxy:
        reader, writer, head = await opened(proxy)
        assert head.startswith(b"HTTP/1.1 404 ") and b"Connection: close" in head
        assert await reader.read() == b"nope", "the connection ends: nobody knows what follows"
        writer.close()
    assert outcomes(tmp_path) == [("completed", 404)]


@pytest.mark.parametrize("apart", [False, True])
async def test_b17_nothing_may_come_before_the_answer(tmp_path: Path, apart: bool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.2)
        writer.write(answer_of({**AGREED}))
        await reader.read()

    async with whole(tmp_path, talk, POLICIES) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        lines = [f"{name}: {value}" for name, value in HANDSHAKE.items()]
        head = "\r\n".join([f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}", *lines])
        smuggled = b"GET /api/plain HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(head.encode() + b"\r\n\r\n" + (b"" if apart else smuggled))
        if apart:
            await asyncio.sleep(0.1)
            writer.write(smuggled)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"" if apart else b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == (0 if apart else 1)
        assert b"plain" not in proxy.arrived


def frame(payload: bytes, first: int = 0x82, mask: bytes = b"\1\2\3\4") -> bytes:
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([first, length[0] | (0x80 if mask else 0)]) + length[1:] + mask + body


FAULTS = [
    (frame(b"x" * 1001), 1009, "message_too_large"),
    (frame(b"x" * 600, 0x02) + frame(b"x" * 600, 0x80), 1009, "message_too_large"),
    (frame(b"x", mask=b""), 1002, "agent_fault"),
    (frame(b"x", 0xC2), 1002, "agent_fault"),
    (frame(b"x", 0x80), 1002, "agent_fault"),
]


async def test_a_frame_that_may_not_be_ends_it_and_says_why(tmp_path: Path) -> None:
    async with served(tmp_path, api=", limits: {message: 1000B}") as (proxy, server, _):
        for sent, code, _cause in FAULTS:
            reader, writer, _ = await opened(proxy)
            writer.write(frame(b"fine"))
            assert await reader.readexactly(6) == frame(b"fine", mask=b"")
            writer.write(sent)
            assert await reader.readexactly(4) == b"\x88\x02" + code.to_bytes(2, "big")
            assert await reader.read() == b""
            writer.close()
        codes = [code for _, code, _ in FAULTS]
        await until(lambda: len(server.closed) == len(FAULTS))
        assert server.closed == codes, "the upstream is told too"
        await until(lambda: len(outcomes(tmp_path)) == len(FAULTS))
        ended = await proxy.metric("aegis_websockets_ended_total")
    assert ended == {'{cause="message_too_large"}': 2, '{cause="agent_fault"}': 3}
    assert sorted(outcomes(tmp_path)) == [("aborted_by_client", 101)] * 3 + [("withheld", 101)] * 2


@pytest.mark.parametrize(
    ("api", "cause"),
    [
        (", timeouts: {idle: 200ms}", "idle"),
        (", timeouts: {websocket: 300ms}", "open_too_long"),
    ],
)
async def test_silence_and_life_have_an_end(tmp_path: Path, api: str, cause: str) -> None:
    async with served(tmp_path, api=api) as (proxy, _, client):
        socket = await client.ws_connect(live(proxy))
        for _ in range(6):
            if cause == "idle":  # as long as something comes it stays
                await socket.send_str("x")
                assert await socket.receive_str() == "x"
                await asyncio.sleep(0.1)
        assert (await socket.receive(3)).type is WSMsgType.CLOSE
        assert socket.close_code == 1001
        await until(lambda: kinds(tmp_path)[-1] == "outcome")
        assert await proxy.metric("aegis_websockets_ended_total") == {f'{{cause="{cause}"}}': 1}
    assert outcomes(tmp_path) == [("withheld", 101)]


async def test_who_leaves_without_a_word_is_told_of_on_the_other_side(tmp_path: Path) -> None:
    async with served(tmp_path) as (proxy, server, client):
        _, writer, _ = await opened(proxy)
        writer.transport.abort()
        await until(lambda: server.closed == [1006])
        await until(lambda: outcomes(tmp_path) == [("aborted_by_client", 101)])

        async def hang_up(socket: web.WebSocketResponse, request: web.Request) -> None:
            await socket.receive()
            assert request.transport is not None
            request.transport.abort()

    (tmp_path / "second").mkdir()
    async with served(tmp_path / "second", hang_up) as (proxy, server, client):
        socket = await client.ws_connect(live(proxy))
        await socket.send_str("bye")
        assert (await socket.receive(3)).type in (WSMsgType.CLOSED, WSMsgType.CLOSE)
        assert socket.close_code == 1006
        await until(lambda: outcomes(tmp_path / "second") == [("upstream_error", 101)])


async def test_an_open_one_is_a_call_in_flight(tmp_path: Path) -> None:
    async with served(tmp_path, api=", limits: {calls: 1}") as (proxy, _, client):
        first = await client.ws_connect(live(proxy))
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(live(proxy))
        assert refused.value.status == 503
        await first.close()
        second: ClientWebSocketResponse | None = None
        async with asyncio.timeout(3):
            while second is None:  # its place is given back when both ends have closed
                with contextlib.suppress(WSServerHandshakeError):
                    second = await client.ws_connect(live(proxy))
        await second.send_str("x")
        assert await second.receive_str() == "x"
        await second.close()  # a connection that is forgotten is told of in another test
        assert second.close_code == 1000


async def test_a_slow_reader_makes_the_other_side_wait(tmp_path: Path) -> None:
    sent = 0

    async def flood(socket: web.WebSocketResponse, _: web.Request) -> None:
        nonlocal sent
        while not socket.closed:
            await socket.send_bytes(b"x" * 65_536)
            sent += 65_536

    async with served(tmp_path, flood) as (proxy, _, _client):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=4096)
        lines = [f"{name}: {value}" for name, value in HANDSHAKE.items()]
        head = "\r\n".join([f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}", *lines])
        writer.write(head.encode() + b"\r\n\r\n")
        before = -1
        async with asyncio.timeout(10):
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
        assert sent < 128 << 20, "what the kernel holds and no more"
        passed = await proxy.metric("aegis_websocket_bytes_total")
        got = 0
        while got < 1 << 20:  # and it goes on as soon as somebody reads
            got += len(await reader.read(65_536))
        writer.transport.abort()
        assert passed['{sender="upstream"}'] <= sent + 65_550


async def test_stopping_takes_leave_of_those_that_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_relay, "FAREWELL_S", 0.5)
    async with ClientSession() as client, websocket_server() as server:
        async with whole(tmp_path, passed_to(server.port), POLICIES) as proxy:
            socket = await client.ws_connect(live(proxy))
            reading = asyncio.ensure_future(socket.receive())
            reader, silent, _ = await opened(proxy)  # this one never says a word
            began_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began_s < 5
        assert (await reading).type is WSMsgType.CLOSE
        assert socket.close_code == 1001
        assert await reader.readexactly(4) == b"\x88\x02\x03\xe9"
        silent.close()
    assert server.closed == [1001, 1001]
    assert sorted(outcomes(tmp_path)) == [("completed", 101), ("unknown", 101)]


async def test_after_a_policy_is_tightened_new_ones_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (proxy, _, client):
        socket = await client.ws_connect(live(proxy))
        (tmp_path / "policies" / "rules.yaml").write_text(ALLOW.replace("allow", "deny"))
        proxy.sidecar.reload_soon()
        async with asyncio.timeout(5):
            while True:
                try:
                    other = await client.ws_connect(live(proxy))
                    await other.close()
                except WSServerHandshakeError as refused:
                    assert refused.status == 403
                    break
        await socket.send_str("still open")
        assert await socket.receive_str() == "still open"
        with contextlib.suppress(ClientConnectionError):
            await socket.close()


async def test_what_an_agent_said_last_reaches_the_upstream_though_the_agent_is_gone() -> None:
    heard, may_read, has_ended = bytearray(), asyncio.Event(), False

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await may_read.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                heard.extend(piece)
        nonlocal has_ended
        has_ended = True
        writer.close()

    async with raw_upstream(slow) as server:
        loop = asyncio.get_running_loop()
        made, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", server.port)
        agent = asyncio.Transport()  # nothing is sent there
        await asyncio.sleep(0.05)
        switched = Switched(made, b"")
        relay = Relay(switched, upstream_of(server.port), WebSocketCounters(), random.randbytes)
        relay.begin(agent)
        size = 0
        frame = bytes((0x82, 0xFE)) + (32000).to_bytes(2, "big") + bytes(4 + 32000)
        while not made.get_write_buffer_size():
            relay.from_agent(frame)
            size += len(frame)
            await asyncio.sleep(0)
        close = bytes((0x88, 0x82)) + bytes(4) + (1000).to_bytes(2, "big")
        relay.from_agent(close)
        relay.agent_lost()
        owner = asyncio.ensure_future(relay.ended)
        owner.add_done_callback(lambda _: relay.cut())  # as whoever owns it does in any case
        await asyncio.sleep(0.05)
        may_read.set()
        await until(lambda: has_ended)
    assert relay.kind is OutcomeKind.COMPLETED
    assert len(heard) == size + len(close) and heard.endswith(close)
