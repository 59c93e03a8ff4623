"""Says that it is a PostgreSQL of an old version, and nothing else: the one server that cannot be
had for real, because no package index keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

#: Columns of `server_state` as an old, otherwise sound server would answer them; type ids first.
TEXT, INT8, BOOL = 25, 20, 16
COLUMNS = (
    (TEXT, b"version"), (INT8, b"number"), (BOOL, b"standby"), (BOOL, b"read_only"),
    (TEXT, b"durability"), (BOOL, b"keeps"), (TEXT, b"timeline"), (BOOL, b"above"),
    (TEXT, b"encoding"), (TEXT, b"open_schemas"),
)  # fmt: skip
TLS_WANTED = struct.pack("!i", 80877103)
READY = b"Z\x00\x00\x00\x05I"


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _row(number: int) -> bytes:
    version = f"{number // 10000}.{number % 10000}".encode()
    values = (version, struct.pack("!q", number), b"\0", b"\0", b"on", b"\1", b"00000001", b"\0",
              b"UTF8", b"")  # fmt: skip
    return b"".join(struct.pack("!i", len(value)) + value for value in values)


def _described() -> bytes:
    fields = b"".join(
        name + b"\0" + struct.pack("!ihihih", 0, 0, kind, -1, -1, 1) for kind, name in COLUMNS
    )
    return _message(b"t", struct.pack("!h", 0)) + _message(
        b"T", struct.pack("!h", len(COLUMNS)) + fields
    )


@contextlib.asynccontextmanager
async def old_server(number: int) -> AsyncIterator[int]:
    """The port of a server that calls itself `number` (as server_version_num)."""

    carried: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        carried.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            size = struct.unpack("!i", await reader.readexactly(4))[0]
            while await reader.readexactly(size - 4) == TLS_WANTED:
                writer.write(b"N")
                size = struct.unpack("!i", await reader.readexactly(4))[0]
            settings = {b"server_version": f"{number // 10000}.{number % 10000}".encode(),
                        b"client_encoding": b"UTF8", b"server_encoding": b"UTF8"}  # fmt: skip
            writer.write(_message(b"R", struct.pack("!i", 0)))
            for name, value in settings.items():
                writer.write(_message(b"S", name + b"\0" + value + b"\0"))
            writer.write(_message(b"K", struct.pack("!ii", 1, 1)) + READY)
            while True:
                kind = await reader.readexactly(1)
                size = struct.unpack("!i", await reader.readexactly(4))[0]
                await reader.readexactly(size - 4)
                if kind == b"P":
                    writer.write(_message(b"1", b"") + _described())
                elif kind == b"B":
                    row = struct.pack("!h", len(COLUMNS)) + _row(number)
                    writer.write(_message(b"2", b"") + _message(b"D", row))
                    writer.write(_message(b"C", b"SELECT 1\0"))
                elif kind == b"S":
                    writer.write(READY)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])
        await asyncio.wait(carried, timeout=5)
