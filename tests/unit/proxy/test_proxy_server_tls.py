"""The data listener over TLS: who gets in, who does not, and that nobody's place is lost."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from certificates import Authority
from proxy_wire_setup import limits_of, until

from sidecar.config.certificates import Material, listener_context
from sidecar.errors import Refused
from sidecar.listening import listening_sockets
from sidecar.proxy.dialects.reply import problem_reply
from sidecar.proxy.doorkeeper import Doorkeeper
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.head import HeadRules
from sidecar.proxy.server import FrontDoor

AUTHORITY = Authority()
SERVER = AUTHORITY.sign()
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"


#: Each has an implementation of TLS of its own.
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_each_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    @pytest.mark.parametrize("loop", LOOPS)
    def run(loop: str) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@dataclass
class TlsDoor:
    """A door that answers every call; `context` is for the next connection."""

    port: int
    front: FrontDoor
    context: ssl.SSLContext

    async def connect(self, context: ssl.SSLContext) -> Streams:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="localhost"
        )

    async def ask(self, context: ssl.SSLContext) -> tuple[str, bytes]:
        """The status line of an answer, and the certificate it came under."""
        reader, writer = await self.connect(context)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(REQUEST)
        line = await reader.readline()
        writer.close()
        return line.decode().strip(), shown


@asynccontextmanager
async def tls_door(material: Material, **limits: object) -> AsyncIterator[TlsDoor]:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(200, [("Content-Type", "text/plain")], b"hello")

    async def refuse(exchange: Exchange, refused: Refused) -> None:
        await exchange.send(*problem_reply(refused, "0" * 32))

    used = limits_of(**limits)
    rules = HeadRules(frozenset({"localhost", "127.0.0.1"}), used.query, used.headers)
    front = FrontDoor(answer, refuse, rules=rules, limits=used, lingering_s=0.2)
    listening = await listening_sockets("127.0.0.1", 0, 100)
    door = TlsDoor(listening[0].getsockname()[1], front, listener_context(material).context)
    keeper = Doorkeeper(front, listening, lambda: door.context)
    try:
        yield door
    finally:
        keeper.close()
        await front.shutdown(0.1)


@on_each_loop
async def test_calls_come_in_over_tls_and_by_http_1_1() -> None:
    async with tls_door(Material(SERVER.certificate, SERVER.key)) as door:
        trusting = AUTHORITY.trusted()
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        assert (await door.ask(trusting))[0] == "HTTP/1.1 200 OK"
        _, writer = await door.connect(trusting)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.close()
        await until(lambda: door.front.open_connections == 0)
        assert door.front.turned_away_total["tls_handshake"] == 0


@on_each_loop
async def test_the_next_connection_meets_another_certificate_and_the_open_one_stays() -> None:
    async with tls_door(Material(SERVER.certificate, SERVER.key)) as door:
        _, first = await door.ask(AUTHORITY.trusted())
        reader, writer = await door.connect(AUTHORITY.trusted())
        other = AUTHORITY.sign("other")
        door.context = listener_context(Material(other.certificate, other.key)).context
        _, second = await door.ask(AUTHORITY.trusted())
        assert first != second
        writer.write(REQUEST)
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@on_each_loop
async def test_b8_plain_http_and_old_tls_get_nothing_and_hold_no_place() -> None:
    async with tls_door(Material(SERVER.certificate, SERVER.key)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(REQUEST)
        assert b"HTTP/" not in await reader.read()
        writer.close()
        old = AUTHORITY.trusted()
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, OSError)):
            await door.ask(old)
        await until(lambda: door.front.turned_away_total["tls_handshake"] == 2)
        assert door.front.open_connections == 0
        assert (await door.ask(AUTHORITY.trusted()))[0] == "HTTP/1.1 200 OK", "positive control"


@on_each_loop
async def test_g4_without_a_certificate_of_the_authority_nobody_gets_in() -> None:
    clients = Authority("clients")
    material = Material(SERVER.certificate, SERVER.key, clients.pem)
    async with tls_door(material) as door:
        for pair in (None, Authority("strangers").sign("mallory")):
            context = AUTHORITY.trusted()
            if pair is not None:
                load(context, pair)
            with pytest.raises((ssl.SSLError, OSError, AssertionError)):
                line, _ = await door.ask(context)
                assert line, "over TLS 1.3 the refusal comes with the first read"
        await until(lambda: door.front.open_connections == 0)
        assert door.front.requests_count == 0
        known = AUTHORITY.trusted()
        load(known, clients.sign("coder"))
        assert (await door.ask(known))[0] == "HTTP/1.1 200 OK", "positive control"


def load(context: ssl.SSLContext, pair: object) -> None:
    import tempfile
    from pathlib import Path

    from certificates import Pair

    assert isinstance(pair, Pair)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*pair.write(Path(folder)))


@on_each_loop
async def test_b19_a_handshake_that_does_not_come_is_over_in_time() -> None:
    async with tls_door(Material(SERVER.certificate, SERVER.key), header_wait_s=0.2) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        await until(lambda: door.front.open_connections == 1)
        assert await reader.read() == b""
        writer.close()
        await until(lambda: door.front.turned_away_total["tls_handshake"] == 1)
        assert door.front.open_connections == 0


@on_each_loop
async def test_b19_the_cap_holds_before_any_handshake() -> None:
    async with tls_door(Material(SERVER.certificate, SERVER.key), per_address=1) as door:
        _, held = await door.connect(AUTHORITY.trusted())
        with pytest.raises((ssl.SSLError, OSError)):
            await door.ask(AUTHORITY.trusted())
        assert door.front.turned_away_total["per_address"] == 1
        held.close()
        await until(lambda: door.front.open_connections == 0)
        assert (await door.ask(AUTHORITY.trusted()))[0] == "HTTP/1.1 200 OK"


@on_each_loop
async def test_a_client_that_leaves_in_the_middle_of_a_handshake_holds_no_place() -> None:
    async with tls_door(Material(SERVER.certificate, SERVER.key)) as door:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", door.port)) as client:
                client.sendall(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03")
        await until(lambda: door.front.turned_away_total["tls_handshake"] == 20)
        assert door.front.open_connections == 0
