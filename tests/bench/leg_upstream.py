"""A trivial upstream for `leg_speed.py`: every request is answered with 1 kB, in one write.

python tests/bench/leg_upstream.py      prints its port; ends when its standard input does
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

BODY = b'{"jsonrpc":"2.0","id":1,"result":{"text":"' + b"x" * 979 + b'"}}\n'
REPLY = (
    b"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 12:00:00 GMT\r\nServer: upstream\r\n"
    b"Content-Type: application/json\r\nX-Request-Id: 0190c0ffee007000\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Answering(asyncio.Protocol):
    """Knows nothing of HTTP but a blank line and a Content-Length."""

    def __init__(self) -> None:
        self._held = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        held = self._held + data
        while (blank := held.find(b"\r\n\r\n")) >= 0:
            at = held.rfind(b"Content-Length: ", 0, blank)
            length = int(held[at + 16 :].partition(b"\r\n")[0]) if at >= 0 else 0
            if len(held) < blank + 4 + length:
                break
            held = held[blank + 4 + length :]
            assert self._transport is not None
            self._transport.write(REPLY)
        self._held = held


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
