"""A pooler between the sidecar and its server, which keeps no session's settings: it is refused,
and what to name instead is said. Each with its positive control.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import asyncpg
import postgres_server
import pytest

from sidecar.clock import Clock
from storage import SqlStore, open_reader, open_store
from storage.errors import StoreError, StoreUnavailable, UnsupportedStore

#: What a pooler passes on of what a session begins with; PgBouncer takes no others, and drops them
#: where it is told to (`ignore_startup_parameters`).
PASSED_ON = (b"user", b"database", b"client_encoding", b"application_name")
STEP = "Name the server itself in `store`, not a pooler"


async def opened(url: str) -> SqlStore:
    return await open_store(url, now_us=Clock().now_us, node_id="node")


async def beginning(reader: asyncio.StreamReader) -> dict[bytes, bytes]:
    """What a session is to begin with, by name."""
    size, _ = struct.unpack("!ii", await reader.readexactly(8))
    words = (await reader.readexactly(size - 8)).split(b"\0")
    return dict(zip(words[:-2:2], words[1:-2:2], strict=True))


def begun_with(settings: dict[bytes, bytes]) -> bytes:
    body = b"".join(name + b"\0" + value + b"\0" for name, value in settings.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, 196608) + body


def refusal(text: str) -> bytes:
    """A pooler's error, which has one code whatever is wrong."""
    body = b"".join((b"SFATAL\0", b"C08P01\0", b"M" + text.encode() + b"\0", b"\0"))
    return b"E" + struct.pack("!i", len(body) + 4) + body


@contextlib.asynccontextmanager
async def pooler(port: int, *, drops: bool) -> AsyncIterator[int]:
    """The port of one before a server: it drops the settings of a session that it does not know,
    or refuses them."""
    carried: set[asyncio.Task[object]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        carried.add(task)
        settings = await beginning(reader)
        unknown = [name for name in settings if name not in PASSED_ON]
        if unknown and not drops:
            writer.write(refusal(f"unsupported startup parameter: {unknown[0].decode()}"))
            await writer.drain()
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        back.write(begun_with({k: v for k, v in settings.items() if k not in unknown}))
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])
    if carried:
        await asyncio.wait(carried, timeout=5)


@pytest.mark.parametrize(("drops", "kind", "reason"), [
    (False, StoreUnavailable, "08P01 unsupported startup parameter"),
    (True, UnsupportedStore, "a session's settings are not kept"),
], ids=["refuses", "drops"])  # fmt: skip
async def test_a16_settings_that_a_pooler_does_not_keep(
    url: str, cluster: postgres_server.Cluster, drops: bool, kind: type[StoreError], reason: str
) -> None:
    """Without them there is no limit of time, and a node that stands still holds up the others."""
    await (await opened(url)).close()
    async with pooler(cluster.port, drops=drops) as port:
        behind = f"{url.replace(f':{cluster.port}/', f':{port}/')}?sslmode=disable"
        plain = await asyncpg.connect(behind)
        assert await plain.fetchval("SELECT 1") == 1, "positive control: it carries"
        await plain.close()
        for open_it in (opened, open_reader):
            with pytest.raises(kind) as caught:
                await open_it(behind)
            assert reason in str(caught.value) and STEP in caught.value.next_step
    await (await opened(url)).close()
