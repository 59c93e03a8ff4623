"""An upstream that leads to this sidecar itself, by an address that no text tells of."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import ClientSession
from aiohttp.abc import AbstractResolver, ResolveResult
from free_ports import free_port
from kept_figures import keep_figures
from proxy_wire_setup import upstream_of

from sidecar.app import running
from sidecar.config.load import load_config
from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.listening import OwnListeners, listening_sockets
from sidecar.proxy import upstream_lean_dial
from sidecar.proxy.upstream_lean import LeanLeg

HANDSHAKE = [
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]  # fmt: skip
POLICIES = {
    "control.yaml": "catalogue: control\ntools: {health: GET /healthz, keys: GET /v1/keys}\n",
    "data.yaml": "catalogue: data\ntools: {health: GET /healthz}\n",
    "p.yaml": "policy: p\nrules: [{id: all, effect: allow, tools: [control/*, data/*]}]\n",
}


class Loopback(AbstractResolver):
    """Every name leads to this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


def own_address() -> str:
    """Where other machines reach this one; of one without a network, another loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])


def listener(host: str, port: int) -> socket.socket:
    name = (host, port, 0, 0) if ":" in host else (host, port)
    return cast(socket.socket, SimpleNamespace(getsockname=lambda: name))


def opened(own: str, peer: str, port: int) -> socket.socket:
    more = (0, 0) if ":" in peer else ()
    return cast(
        socket.socket,
        SimpleNamespace(
            getsockname=lambda: (own, 40_000, *more), getpeername=lambda: (peer, port, *more)
        ),
    )


@pytest.mark.parametrize(
    ("listens", "own", "peer", "port", "is_ours"),
    [
        ("0.0.0.0", "10.0.0.5", "10.0.0.5", 8081, True),
        ("0.0.0.0", "127.0.0.1", "127.0.0.9", 8081, True),
        ("0.0.0.0", "::1", "::1", 8081, True),
        ("::", "fd00::2", "fd00::2", 8081, True),
        ("::", "fe80::2%eth0", "fe80::2%eth0", 8081, True),
        ("0.0.0.0", "::ffff:10.0.0.5", "::ffff:10.0.0.5", 8081, True),
        ("10.0.0.5", "10.0.0.6", "10.0.0.5", 8081, True),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", 8081, True),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2", 8081, True),
        # A neighbour: on another port, another machine, another address of this one.
        ("0.0.0.0", "10.0.0.5", "10.0.0.5", 8082, False),
        ("0.0.0.0", "10.0.0.5", "10.0.0.6", 8081, False),
        ("127.0.0.1", "10.0.0.5", "10.0.0.5", 8081, False),
        ("10.0.0.5", "127.0.0.1", "127.0.0.1", 8081, False),
    ],
)
def test_g9_a_connection_tells_whether_it_has_led_to_us(
    listens: str, own: str, peer: str, port: int, is_ours: bool
) -> None:
    ourselves = OwnListeners()
    connection = opened(own, peer, port)
    assert not ourselves.are_reached_by(connection), "nobody listens yet"
    ourselves.add([listener("192.0.2.77", 8080), listener(listens, 8081)])
    assert ourselves.are_reached_by(connection) is is_ours


@dataclass
class Met:
    """What a listener met: connections, and bytes that came over them."""

    listening: list[socket.socket]
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def met_by() -> AsyncIterator[Met]:
    met = Met(await listening_sockets("0.0.0.0", 0, 8))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.connections += 1
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                met.received += data
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                break
        writer.close()
        met.ended.set()

    server = await asyncio.start_server(serve, sock=met.listening[0])
    async with server:
        yield met


async def sent(leg: LeanLeg, upstream: Upstream, way: str) -> str:
    """By which code it was refused; "" if it was not."""
    try:
        if way == "websocket":
            reply = await leg.open_websocket(upstream, "/", HANDSHAKE)
        else:
            reply = await leg.send(upstream, "GET", "/", [], b"")
    except Refused as refused:
        return f"{refused.code}: {refused.detail}"
    reply.close()
    return ""


@pytest.mark.parametrize("way", ["http", "https", "websocket"])
async def test_g9_nothing_is_sent_on_a_connection_that_has_led_to_us(way: str) -> None:
    async with met_by() as met:
        port = met.listening[0].getsockname()[1]
        scheme = "https" if way == "https" else "http"
        upstream = upstream_of(port, url=f"{scheme}://{own_address()}:{port}")
        ourselves = OwnListeners()
        ourselves.add(met.listening)
        leg = LeanLeg(ourselves=ourselves)
        said = await sent(leg, upstream, way)
        assert said == "upstream_unreachable: the upstream is this sidecar itself"
        await asyncio.wait_for(met.ended.wait(), 5)
        assert (met.connections, bytes(met.received)) == (1, b"")
        await leg.close()

        stranger = LeanLeg(ourselves=OwnListeners())
        assert "itself" not in await sent(stranger, upstream, way)
        assert met.connections == 2 and met.received, "positive control"
        await stranger.close()


async def test_g9_an_upstream_reaches_neither_of_our_listeners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_lean_dial, "OwnThreadResolver", Loopback)
    data, control = free_port(), free_port()
    (tmp_path / "policies").mkdir()
    for name, text in POLICIES.items():
        (tmp_path / "policies" / name).write_text(text)
    (tmp_path / "sidecar.yaml").write_text(
        "listen:\n"
        f"  data: {{address: '127.0.0.1:{data}', hosts: [aegis]}}\n"
        f"  control: {{address: '0.0.0.0:{control}', hosts: [aegis]}}\n"
        f"policies: {tmp_path}/policies\n"
        "upstreams:\n"
        f"  control: {{url: 'http://{own_address()}:{control}', private: true}}\n"
        f"  data: {{url: 'http://loopback.test:{data}', private: true}}\n"
    )
    loaded = load_config(tmp_path / "sidecar.yaml", {}, [])
    assert loaded.config is not None, loaded.problems
    keep_figures(tmp_path)
    async with running(loaded.config, log=io.StringIO()) as sidecar, ClientSession() as session:

        async def asked(url: str) -> Any:
            async with session.get(url) as reply:
                return reply.status, await reply.json()

        status, _ = await asked(f"http://127.0.0.1:{control}/healthz")
        assert status == 200, "positive control"
        for path in ("/control/healthz", "/control/v1/keys", "/data/healthz"):
            status, said = await asked(f"{sidecar.data_url}{path}")
            assert (status, said["code"]) == (502, "upstream_unreachable"), path
