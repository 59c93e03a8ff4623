"""`Expect: 100-continue`: on either listener a body is asked for once it is known who sends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from free_ports import free_port
from kept_figures import keep_figures

from sidecar.app import running
from sidecar.config.load import load_config

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ADMIN = "ana-canary-Qm9Yb2N4a1Zt-1"
VIEWER = "eve-canary-Xb2N4a1ZtQm9Y-2"
TOKEN = "coder-canary-b2N4a1ZtQm9YXs-3"
LONG = 64 * 1024 * 1024
NEW_KEY = json.dumps({"name": "ci", "roles": ["viewer"]}).encode()
CONFIGURATION = """
tenants:
  default:
    agents: {coder: {token: {env: TOKEN}}}
    people:
      ana: {roles: [admin], key: {env: ADMIN}}
      eve: {roles: [viewer], key: {env: VIEWER}}
upstreams: {shop: {url: 'http://127.0.0.1:9'}}
"""


@dataclass
class Listeners:
    """Where they stand."""

    data: int
    control: int


@pytest.fixture
async def listeners(tmp_path: Path) -> AsyncIterator[Listeners]:
    found = Listeners(free_port(), free_port())
    (tmp_path / "p").mkdir()
    (tmp_path / "p/c.yaml").write_text("catalogue: shop\ntools: {buy: POST /buy}\n")
    (tmp_path / "p/p.yaml").write_text(
        "policy: p\nrules: [{id: r, effect: allow, tools: [shop/*]}]\n"
    )
    (tmp_path / "sidecar.yaml").write_text(
        f"listen: {{data: '127.0.0.1:{found.data}', control: '127.0.0.1:{found.control}'}}\n"
        f"policies: ./p\n{CONFIGURATION}"
    )
    environ = {"ADMIN": ADMIN, "VIEWER": VIEWER, "TOKEN": TOKEN}
    loaded = load_config(tmp_path / "sidecar.yaml", environ, ())
    assert loaded.config is not None, loaded.problems
    keep_figures(tmp_path)
    async with running(loaded.config):
        yield found


def head(path: str, length: int, *more: str, expect: str = "100-continue", host: str = "") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1", f"Host: {host or '127.0.0.1'}",
        "Content-Type: application/json", f"Content-Length: {length}", f"Expect: {expect}", *more,
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.asynccontextmanager
async def sent(
    port: int, request: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


async def status_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The final status, and its head."""
    found = await reader.readuntil(b"\r\n\r\n")
    return int(found.split()[1]), found.lower()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head("/v1/keys", 9), 401),
        (head("/v1/keys", 9, "Authorization: Bearer guess"), 401),
        (head("/v1/keys", 9, f"Authorization: Bearer {VIEWER}"), 403),
        (head("/v1/keys", LONG, f"Authorization: Bearer {ADMIN}"), 413),
        (head("/v1/keys", 9, f"Authorization: Bearer {ADMIN}", host="evil.example"), 421),
        (head("/v1/keys", 9, f"Authorization: Bearer {ADMIN}", "Origin: http://evil.io"), 403),
        (head("/v1/nothing", 9), 404),
        (head("/nothing", 9), 404),
        (head("/metrics", 9), 405),
        (head("/v1/authorize", 9), 401),
        (head("/v1/authorize", LONG, f"Aegis-Token: {TOKEN}"), 413),
        (head("/approvals/link/x.y", 9), 403),
        (head("/console/sign-in", 9), 403),
        (head("/v1/keys", 9, f"Authorization: Bearer {ADMIN}", expect="a cake"), 417),
        (head("/nothing", 9, expect="100-continue, x"), 417),
    ],
)
async def test_b16_the_control_listener_asks_nobody_for_a_body_who_may_not_send_it(
    listeners: Listeners, request_head: bytes, status: int
) -> None:
    async with sent(listeners.control, request_head) as (reader, _):
        found, answer = await status_of(reader)
    assert found == status, answer
    # The client may or may not send the body now: nothing after it is read as a request.
    assert b"connection: close" in answer


async def test_b16_a_body_that_is_wanted_is_asked_for_and_the_connection_stays(
    listeners: Listeners,
) -> None:
    request = head("/v1/keys", len(NEW_KEY), f"Authorization: Bearer {ADMIN}")
    async with sent(listeners.control, request) as (reader, writer):
        for _ in range(2):
            assert await reader.readexactly(len(CONTINUE)) == CONTINUE
            writer.write(NEW_KEY)
            status, answer = await status_of(reader)
            assert status == 201 and b"connection: close" not in answer
            length = int(answer.partition(b"content-length: ")[2].split()[0])
            assert b'"key"' in await reader.readexactly(length)
            writer.write(request)


async def test_b16_who_does_not_wait_or_is_too_old_is_not_asked(listeners: Listeners) -> None:
    request = head("/v1/keys", len(NEW_KEY), f"Authorization: Bearer {ADMIN}")
    for waiting in (request + NEW_KEY, request.replace(b"HTTP/1.1", b"HTTP/1.0") + NEW_KEY):
        async with sent(listeners.control, waiting) as (reader, _):
            assert (await status_of(reader))[0] == 201


async def test_b5_what_comes_in_chunks_is_the_last_of_its_connection(listeners: Listeners) -> None:
    """Of trailers the parser would make a header of the next request, whoever sends that."""
    chunked = (
        b"POST /v1/authorize HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nAuthorization: Bearer %s\r\n\r\n" % ADMIN.encode()
    )
    behind = b"GET /v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with sent(listeners.control, chunked + behind) as (reader, _):
        status, answer = await status_of(reader)
        assert status == 401 and b"connection: close" in answer
        assert b"HTTP/1.1" not in await reader.read()


async def test_b16_a_head_that_cannot_be_read_is_answered(listeners: Listeners) -> None:
    for more in (f"X-Long: {'x' * 9000}", "no colon in it"):
        async with sent(listeners.control, head("/v1/keys", 9, more)) as (reader, _):
            assert (await status_of(reader))[0] == 400


async def test_b16_the_data_listener_asks_nobody_for_a_body_whom_it_does_not_know(
    listeners: Listeners,
) -> None:
    for path in ("/shop/buy", "/v1/authorize"):
        for credential in ((), ("Aegis-Token: guess",)):
            async with sent(listeners.data, head(path, 9, *credential)) as (reader, _):
                assert (await status_of(reader))[0] == 401, (path, credential)
        known = head(path, 9, f"Aegis-Token: {TOKEN}")
        async with sent(listeners.data, known) as (reader, _):
            assert await reader.readexactly(len(CONTINUE)) == CONTINUE, "positive control"
