"""What stands in files under an upstream's `tls` is taken over for the connections that follow."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from certificates import Authority
from proxy_wire_setup import OK, read_request, upstream_of

from sidecar.app import running
from sidecar.certificate_keeper import Certificates
from sidecar.config.load import load_config
from sidecar.config.model import Address, Listen, Pem, Secret, Upstream, UpstreamTls
from sidecar.errors import Refused, StartRefused
from sidecar.proxy.upstream_lean import LeanLeg

PLAIN = Listen(data=Address(host="127.0.0.1", port=1), control=Address(host="127.0.0.1", port=2))
SERVERS, CLIENTS = Authority("of servers"), Authority("of clients")


class Server:
    """An HTTPS server that wants a client's certificate; `shown` are their subjects."""

    def __init__(self) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(cadata=CLIENTS.pem.decode())
        self.shown: list[str] = []
        self.port = 0

    def speak_for(self, authority: Authority, folder: Path) -> None:
        """From now on its certificate is one of this authority's."""
        certificate, key = authority.sign().write(folder, "of-the-server")
        self.context.load_cert_chain(certificate, key)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = dict(part[0] for part in writer.get_extra_info("peercert")["subject"])
        self.shown.append(subject["commonName"])
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await read_request(reader)
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Server]:
    found = Server()
    found.speak_for(SERVERS, folder)
    listening = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=found.context)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        listening.close()


def files(folder: Path) -> UpstreamTls:
    (folder / "ca.pem").write_bytes(SERVERS.pem)
    certificate, key = CLIENTS.sign("first").write(folder, "client")
    return UpstreamTls(
        ca=Pem(path=folder / "ca.pem"), cert=Pem(path=certificate), key=Pem(path=key)
    )


async def asked(leg: LeanLeg, upstream: Upstream) -> int | str:
    try:
        reply = await leg.send(upstream, "GET", "/x", [], b"")
    except Refused as refused:
        return refused.code
    reply.close()
    return reply.status


async def test_changed_files_count_for_new_connections_and_broken_ones_for_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(tmp_path) as there:
        tls = files(tmp_path)
        upstream = upstream_of(there.port, url=f"https://localhost:{there.port}", tls=tls)
        kept = Certificates(PLAIN, {"up": upstream})
        (keeper,) = kept.of_upstreams
        leg = LeanLeg(kept.contexts())
        assert await asked(leg, upstream) == 200
        first_us = keeper.expires_us
        assert first_us is not None and first_us / 1e6 > time.time() + 86400
        CLIENTS.sign("second", days=20).write(tmp_path, "client")
        assert await asked(leg, upstream) == 200
        assert await keeper.look()
        assert await asked(leg, upstream) == 200
        assert keeper.expires_us is not None and keeper.expires_us > first_us
        assert there.shown == ["first", "first", "second"]
        # Another authority vouches for the server.
        other = Authority("another")
        there.speak_for(other, tmp_path)
        assert await asked(leg, upstream) == "upstream_unreachable"
        (tmp_path / "ca.pem").write_bytes(other.pem)
        assert await keeper.look() and keeper.reload_succeeded
        assert await asked(leg, upstream) == 200
        # What is of no use changes nothing, and is said once.
        for name, text in (("ca.pem", "-----BEGIN nothing"), ("client.key", "")):
            good = (tmp_path / name).read_bytes()
            (tmp_path / name).write_text(text)
            assert not await keeper.look() and not await keeper.look()
            assert not keeper.reload_succeeded
            assert await asked(leg, upstream) == 200
            (tmp_path / name).write_bytes(good)
            await keeper.look()
            assert keeper.reload_succeeded
        await leg.close()
    said = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert said == ["a certificate cannot be used; the one before stays"] * 2


def test_what_was_given_once_is_not_looked_at(tmp_path: Path) -> None:
    once = UpstreamTls(ca=Pem(given=Secret(SERVERS.pem.decode())))
    assert Certificates(PLAIN, {"up": upstream_of(1, tls=once)}).of_upstreams == ()
    tls = files(tmp_path)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(StartRefused, match=r"upstreams\.up\.tls"):
        Certificates(PLAIN, {"up": upstream_of(1, tls=tls)})


async def test_a_running_sidecar_takes_them_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port_factory: object
) -> None:
    monkeypatch.setattr("sidecar.certificate_keeper.POLL_S", 0.1)
    files(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "up.yaml").write_text("catalogue: up\ntools: {x: GET /x}\n")
    (tmp_path / "policies" / "p.yaml").write_text(
        "policy: p\nrules:\n  - {id: all, effect: allow, tools: up/x}\n"
    )
    data, control = unused_tcp_port_factory(), unused_tcp_port_factory()  # type: ignore[operator]
    async with server(tmp_path) as there:
        (tmp_path / "sidecar.yaml").write_text(
            f"listen: {{data: '127.0.0.1:{data}', control: '127.0.0.1:{control}'}}\n"
            f"policies: {tmp_path}/policies\nupstreams:\n"
            f"  up: {{url: 'https://localhost:{there.port}', private: true, tls: "
            "{ca: {file: ca.pem}, cert: {file: client.pem}, key: {file: client.key}}}\n"
        )
        loaded = load_config(tmp_path / "sidecar.yaml", {}, [])
        assert loaded.config is not None, loaded.problems
        async with running(loaded.config) as sidecar, ClientSession() as client:

            async def succeeded() -> bool:
                async with client.get(f"{sidecar.control_url}/metrics") as reply:
                    text = await reply.text()
                return 'aegis_upstream_tls_reload_success{upstream="up"} 1' in text

            async with client.get(f"{sidecar.data_url}/up/x") as reply:
                assert reply.status == 200
            assert await succeeded()
            (tmp_path / "client.pem").write_bytes(CLIENTS.sign("third").certificate)
            async with asyncio.timeout(5):
                while await succeeded():
                    await asyncio.sleep(0.05)
            CLIENTS.sign("third").write(tmp_path, "client")
            async with asyncio.timeout(5):
                while not await succeeded():
                    await asyncio.sleep(0.05)
            async with client.get(f"{sidecar.data_url}/up/x") as reply:
                assert reply.status == 200
        assert there.shown == ["first", "third"]
