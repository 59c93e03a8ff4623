"""The yardstick: a bare, tuned aiohttp pass-through. It judges and records nothing.

Settings: uvloop; web.Server without an application; no access log; one ClientSession with
DummyCookieJar, auto_decompress=False, trust_env=False and an unlimited connector; bodies read
whole in both directions; gc frozen after start, threshold 50000.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import aiohttp
import uvloop
from aiohttp import web
from yarl import URL

SKIPPED = {
    "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host",
    "content-length", "proxy-authorization", "proxy-authenticate",
}  # fmt: skip


async def main(port: int, upstream: str) -> None:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
    )

    async def handler(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in SKIPPED]
        async with session.request(
            request.method,
            URL(upstream + request.raw_path, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as reply:
            data = await reply.read()
            kept = [(k, v) for k, v in reply.headers.items() if k.lower() not in SKIPPED]
            response = web.Response(status=reply.status, body=data)
            response.headers.extend(kept)
            return response

    server = web.Server(handler, access_log=None)
    await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, backlog=1024)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50000)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
