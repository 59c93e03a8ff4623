"""A WebSocket through the command a user starts, over TLS on both sides, until it is stopped."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

from aiohttp import ClientSession, TCPConnector, WSMsgType, web
from certificates import Authority
from running import Process

POLICIES = {
    "tools.yaml": "catalogue: up\ntools: {live: {route: GET /live, websocket: true}}\n",
    "p.yaml": "policy: p\nrules:\n  - {id: live, effect: allow, tools: up/live}\n",
}


class TlsProcess(Process):
    """One that is ready when `health` says so: its certificate is of an authority of its own."""

    def readiness(self) -> int:
        return 200 if self.cli("health", "--config", str(self.config)).returncode == 0 else 0


async def _echo(request: web.BaseRequest) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(message.data)
    return socket


async def _conversation(process: Process, upstream_tls: ssl.SSLContext, trust: Authority) -> float:
    """Speaks, has the sidecar stopped, and says how long that took."""
    runner = web.ServerRunner(web.Server(_echo), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=upstream_tls).start()
    port = runner.addresses[0][1]
    ca = "tls: {ca: {file: ca.pem}}"
    process.write(f"  up: {{url: 'https://localhost:{port}', {ca}}}", POLICIES)
    tls = "tls: {cert: {file: server.pem}, key: {file: server.key}}"
    text = process.config.read_text()
    bare = f"'127.0.0.1:{process.data_port}'"
    process.config.write_text(text.replace(bare, f"{{address: {bare}, {tls}}}"))
    await asyncio.to_thread(process.start)
    connector = TCPConnector(ssl=trust.trusted())
    async with ClientSession(connector=connector) as client:
        url = f"https://localhost:{process.data_port}/up/live"
        async with client.ws_connect(url) as socket:
            for size in (1, 70_000, 1 << 20):
                await socket.send_bytes(b"x" * size)
                assert await socket.receive_bytes() == b"x" * size
        socket = await client.ws_connect(url)
        stopping = asyncio.ensure_future(asyncio.to_thread(_timed_stop, process))
        assert (await socket.receive(20)).type is WSMsgType.CLOSE
        assert socket.close_code == 1001
        took_s = await stopping
    await runner.cleanup()
    return took_s


def _timed_stop(process: Process) -> float:
    began_s = time.monotonic()
    assert process.stop() == 0
    return time.monotonic() - began_s


def test_a_websocket_over_tls_is_carried_and_taken_leave_of(tmp_path: Path) -> None:
    authority, other = Authority(), Authority("of the upstream")
    authority.sign().write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(other.pem)
    certificate, key = other.sign().write(tmp_path, "upstream")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    process = TlsProcess(tmp_path)
    try:
        took_s = asyncio.run(_conversation(process, context, authority))
    finally:
        process.kill()
    assert took_s < 10, process.log()
    found = process.receipts()
    kinds = sorted(str(one["kind"]) for one in found)
    assert kinds == ["control", *["intent"] * 2, *["outcome"] * 2], "and that it stopped"
    assert [one["outcome"] for one in found if one["kind"] == "outcome"] == ["completed"] * 2
