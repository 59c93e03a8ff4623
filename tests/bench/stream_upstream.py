"""An upstream that streams: what it sends is told by the path. Prints its port, ends with stdin.

/first       a chunk at once, and the end a moment later
/big/BYTES   so many bytes under a Content-Length
/events      an event stream that says nothing more after its first event
/live        agrees to a WebSocket and says one thing through it
/slow        nothing at all
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys

import uvloop

PIECE = b"x" * 65_536
EVENT = b"event: hello\ndata: {}\n\n"
END_S = 0.005
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _agreed(head: bytes) -> bytes:
    key = KEY.search(head)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n\x82\x05hello" % accept
    )


async def _answer(path: bytes, head: bytes, writer: asyncio.StreamWriter) -> None:
    if path.endswith(b"/first"):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
            + _chunk(b"first")
        )
        await asyncio.sleep(END_S)
        writer.write(_chunk(b"last") + b"0\r\n\r\n")
    elif b"/big/" in path:
        left = int(path.rpartition(b"/")[2])
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: %d\r\n\r\n" % left
        )
        while left:
            piece = PIECE[:left]
            writer.write(piece)
            await writer.drain()
            left -= len(piece)
    elif path.endswith(b"/events"):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(EVENT)
        )
        await asyncio.Event().wait()
    elif path.endswith(b"/live"):
        writer.write(_agreed(head))
        await asyncio.Event().wait()
    else:
        await asyncio.Event().wait()
    await writer.drain()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ", 2)[1]
            gone = asyncio.ensure_future(reader.read(1)) if b"/first" not in path else None
            answer = asyncio.ensure_future(_answer(path, head, writer))
            waiting = {answer} if gone is None else {answer, gone}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or gone is not None:
                answer.cancel()
                if gone is not None:
                    gone.cancel()
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
