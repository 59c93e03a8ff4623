"""HTTPS upstreams: a certificate that the system trusts, or nothing is sent."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

from proxy_wire_setup import OK, read_request

SCRIPT = """
import asyncio, sys
from sidecar.config.model import Upstream, UpstreamLimits
from sidecar.errors import Refused
from sidecar.proxy.upstream_aiohttp import AiohttpLeg

async def main():
    leg = AiohttpLeg()
    up = Upstream(name="up", url=sys.argv[1], private=True,
                  limits=UpstreamLimits(request_bytes=1, calls=1))
    try:
        print((await leg.send(up, "GET", "/x", [], b"")).status)
    except Refused as refused:
        print(refused.code)
    await leg.close()

asyncio.run(main())
"""


async def _ask(url: str, authority: Path | None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    if authority is not None:
        environment["SSL_CERT_FILE"] = str(authority)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, url, env=environment, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    return answer.decode().strip()


async def test_https_needs_a_trusted_certificate_for_the_name(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    served: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append((await read_request(reader))[0])
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    localhost = f"https://localhost:{port}"
    assert await _ask(localhost, None) == "upstream_unreachable"
    assert await _ask(f"https://127.0.0.1:{port}", certificate) == "upstream_unreachable"
    assert served == []
    assert await _ask(localhost, certificate) == "200"
    assert served[0].startswith(f"GET /x HTTP/1.1\r\nHost: localhost:{port}\r\n".encode())
    server.close()
