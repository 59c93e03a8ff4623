"""HTTPS upstreams with every leg: the right certificate for the right name, or nothing is sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from proxy_wire_setup import (
    LEGS,
    OK,
    Conversation,
    answering,
    every_leg,
    made_leg,
    raw_upstream,
    read_request,
    upstream_of,
)

from sidecar.config.load import load_config
from sidecar.config.model import Pem, Secret, Upstream, UpstreamTls
from sidecar.config.upstream_tls import client_material
from sidecar.errors import Refused
from sidecar.proxy.upstream import Reply, UpstreamLeg
from sidecar.proxy.upstream_lean import LeanLeg

__all__ = ["every_leg"]

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Papers:
    """Certificates that vouch for themselves: `localhost` for a server, one for a client."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def secret(self, name: str) -> Pem:
        return Pem(given=Secret(self.path(name).read_text()))

    def make(self, name: str, subject: str) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            + ["-nodes", "-keyout", str(self.path(f"{name}.key"))]
            + ["-out", str(self.path(f"{name}.pem")), "-days", "2", "-subj", f"/CN={subject}"]
            + ["-addext", f"subjectAltName=DNS:{subject}"],
            check=True,
            capture_output=True,
        )


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    made = Papers(tmp_path_factory.mktemp("papers"))
    made.make("server", "localhost")
    made.make("client", "sidecar.acme.io")
    return made


@dataclass
class TlsServer:
    """What a scripted HTTPS server met: heads of requests, and the certificates shown to it."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    shown: list[object] = field(default_factory=list)
    connections: int = 0

    def upstream(self, tls: UpstreamTls, host: str = "localhost") -> Upstream:
        return upstream_of(self.port, url=f"https://{host}:{self.port}", tls=tls)


@contextlib.asynccontextmanager
async def tls_server(
    papers: Papers, talk: Conversation, *, client_ca: str = "", version: str = ""
) -> AsyncIterator[TlsServer]:
    """Serves `talk` on each connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(papers.path("server.pem"), papers.path("server.key"))
    if client_ca:
        context.load_verify_locations(papers.path(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    if version:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    met = TlsServer()
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        met.connections += 1
        met.shown.append(writer.get_extra_info("peercert"))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await talk(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    met.port = server.sockets[0].getsockname()[1]
    try:
        yield met
    finally:
        server.close()
        for writer in serving.values():
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)


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


async def refused(leg: UpstreamLeg, upstream: Upstream) -> str:
    with pytest.raises(Refused) as caught:
        reply = await leg.send(upstream, "GET", "/x", [], b"")
        await whole(reply)
    return caught.value.code


@pytest.mark.usefixtures("every_leg")
async def test_a_trusted_upstream_serves_call_after_call_on_one_connection(papers: Papers) -> None:
    talk = answering(OK, STREAM + b"2\r\nok\r\n0\r\n\r\n", OK)
    async with tls_server(papers, talk) as server, leg() as one:
        upstream = server.upstream(UpstreamTls(ca=papers.secret("server.pem")))
        for _ in range(5):
            reply = await one.send(upstream, "POST", "/x", [], b"{}" * 50_000)
            assert (reply.status, await whole(reply)) == (200, b"ok")
        assert server.connections == 1


@pytest.mark.usefixtures("every_leg")
async def test_a_certificate_for_another_name_or_of_a_stranger_is_refused(papers: Papers) -> None:
    async with tls_server(papers, answering(OK)) as server, leg() as one:
        trusted = UpstreamTls(ca=papers.secret("server.pem"))
        assert await refused(one, server.upstream(trusted, "127.0.0.1")) == "upstream_unreachable"
        await one.close()
        assert await refused(one, server.upstream(UpstreamTls())) == "upstream_unreachable"
        await one.close()
        stranger = UpstreamTls(ca=papers.secret("client.pem"))
        assert await refused(one, server.upstream(stranger)) == "upstream_unreachable"
        await one.close()
        assert server.connections == 0
        assert (await one.send(server.upstream(trusted), "GET", "/x", [], b"")).status == 200


@pytest.mark.usefixtures("every_leg")
async def test_a_client_certificate_is_shown_where_one_is_configured(papers: Papers) -> None:
    async with tls_server(papers, answering(OK), client_ca="client.pem") as server, leg() as one:
        ca = papers.secret("server.pem")
        with_paper = UpstreamTls(
            ca=ca, cert=papers.secret("client.pem"), key=papers.secret("client.key")
        )
        reply = await one.send(server.upstream(with_paper), "GET", "/x", [], b"")
        assert await whole(reply) == b"ok"
        assert "sidecar.acme.io" in repr(server.shown[0])
        await one.close()
        code = await refused(one, server.upstream(UpstreamTls(ca=ca)))
        # TLS 1.3 tells a client only after its first bytes that its certificate was missed.
        assert code in ("upstream_unreachable", "upstream_broken")
        assert len(server.heads) == 0


@pytest.mark.usefixtures("every_leg")
async def test_an_old_version_of_tls_is_refused(papers: Papers) -> None:
    ca = UpstreamTls(ca=papers.secret("server.pem"))
    for version in ("TLSv1_1", "TLSv1_2", "TLSv1_3"):
        async with tls_server(papers, answering(OK), version=version) as server, leg() as one:
            if version == "TLSv1_1":
                assert await refused(one, server.upstream(ca)) == "upstream_unreachable"
            else:
                assert (await one.send(server.upstream(ca), "GET", "/x", [], b"")).status == 200


@pytest.mark.usefixtures("every_leg")
async def test_plain_http_on_a_tls_port_and_the_reverse_send_nothing(papers: Papers) -> None:
    async def bad_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with raw_upstream(bad_request) as plain, leg() as one:
        up = upstream_of(plain.port, url=f"https://localhost:{plain.port}", connect_s=1.0)
        assert await refused(one, up) == "upstream_unreachable"
        assert b"GET" not in plain.received[0]
    async with tls_server(papers, answering(OK)) as server, leg() as one:
        up = upstream_of(server.port, response_s=1.0)
        assert await refused(one, up) in ("upstream_broken", "upstream_timeout")
        assert server.connections == 0


@pytest.mark.parametrize("loop_of_leg", [asyncio.new_event_loop, uvloop.new_event_loop])
async def test_b21_a_body_that_ends_with_the_connection_must_be_ended_by_tls(
    loop_of_leg: Callable[[], asyncio.AbstractEventLoop], papers: Papers
) -> None:
    """Who cuts the line cannot know the key: only the upstream can say that this was all."""
    ends_well = False

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npart of it")
        await writer.drain()
        if not ends_well:
            await asyncio.sleep(0.05)
            # The end of the stream below TLS, as anyone on the way could write it.
            writer.transport._ssl_protocol._transport.write_eof()
            await reader.read()

    async def ask(upstream: Upstream) -> bytes:
        one = LeanLeg()
        try:
            return await whole(await one.send(upstream, "GET", "/x", [], b""))
        finally:
            await one.close()

    def asked(upstream: Upstream) -> bytes:
        with asyncio.Runner(loop_factory=loop_of_leg) as runner:
            return runner.run(ask(upstream))

    async with tls_server(papers, talk) as server:
        upstream = server.upstream(UpstreamTls(ca=papers.secret("server.pem")))
        with pytest.raises(Refused) as caught:
            await asyncio.to_thread(asked, upstream)
        assert caught.value.code == "upstream_broken"
        ends_well = True
        assert await asyncio.to_thread(asked, upstream) == b"part of it"


SCRIPT = """
import asyncio, sys
from proxy_wire_setup import LEGS
from sidecar.config.model import Upstream, UpstreamLimits
from sidecar.errors import Refused

async def main():
    leg = LEGS[sys.argv[2]]()
    up = Upstream(name="up", url=sys.argv[1], private=True,
                  limits=UpstreamLimits(request_bytes=1, calls=1))
    try:
        print((await leg.send(up, "GET", "/x", [], b"")).status)
    except Refused as refused:
        print(refused.code)
    await leg.close()

asyncio.run(main())
"""


async def _ask(url: str, authority: Path | None, name: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    here = Path(__file__).parent
    environment["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parents[1])])
    if authority is not None:
        environment["SSL_CERT_FILE"] = str(authority)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, url, name, env=environment, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    return answer.decode().strip()


@pytest.mark.parametrize("name", LEGS)
async def test_without_an_authority_of_its_own_the_systems_vouch(name: str, papers: Papers) -> None:
    async with tls_server(papers, answering(OK)) as server:
        url = f"https://localhost:{server.port}"
        assert await _ask(url, None, name) == "upstream_unreachable"
        assert await _ask(url, papers.path("server.pem"), name) == "200"


async def test_the_settings_are_read_and_show_no_text(papers: Papers, tmp_path: Path) -> None:
    for name in ("server.pem", "client.pem", "client.key"):
        (tmp_path / name).write_bytes(papers.path(name).read_bytes())
        (tmp_path / name).chmod(0o644 if name != "client.key" else 0o600)
    (tmp_path / "policies").mkdir()
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        "policies: policies\nupstreams:\n  up:\n    url: https://localhost\n    tls: {ca: {file: "
        "server.pem}, cert: {file: client.pem}, key: {file: client.key}}\n"
    )
    loaded = load_config(config, {}, [])
    assert loaded.problems == [] and loaded.config is not None
    tls = loaded.config.upstreams["up"].tls
    made = client_material(tls)
    assert made.ca is not None and made.ca.startswith(b"-----BEGIN CERTIFICATE-----")
    assert "BEGIN" not in repr(tls)
    (tmp_path / "client.key").chmod(0o644)
    (problem,) = load_config(config, {}, []).problems
    assert "open to every user" in problem.message
    (tmp_path / "client.key").chmod(0o600)
    (tmp_path / "client.pem").write_bytes(papers.path("server.pem").read_bytes())
    (problem,) = load_config(config, {}, []).problems
    assert "no certificate with its key" in problem.message
