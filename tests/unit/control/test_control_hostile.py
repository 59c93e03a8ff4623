"""Who acted by control.sock is on record, and who has no key makes neither errors nor waits."""

from __future__ import annotations

import asyncio
import getpass
import io
import logging
import sqlite3
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, UnixConnector
from test_control_approval_links import Served, served  # noqa: F401

from sidecar.telemetry.logs import Logs

FORM = "application/x-www-form-urlencoded"


async def posted(sidecar: Served, path: str, body: object) -> tuple[int, dict]:
    connector = UnixConnector(path=str(sidecar.folder / "control.sock"))
    async with (
        ClientSession(connector=connector) as session,
        session.post(f"http://localhost{path}", json=body) as reply,
    ):
        return reply.status, await reply.json()


async def test_who_ends_a_run_by_the_socket_is_on_record(served: Served) -> None:  # noqa: F811
    """README: through `control.sock` you act as `socket:USER`, on record."""
    status, said = await posted(served, "/runs/reset", {"agent": "agent", "reason": "done"})
    assert status == 200 and said["seq"], said
    with sqlite3.connect(next(served.folder.rglob("*.db"))) as store:
        found = dict(store.execute("SELECT action, actor FROM audit_event"))
    assert found["run.reset"] == f"socket:{getpass.getuser()}", found


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b"vote=\xff"),
        (f"{FORM}; charset=foo", b"vote=approve"),
        ("application/json", b"[" * 2000),
    ],
)
async def test_g4_nobody_makes_the_listener_fail(served: Served, kind: str, body: bytes) -> None:  # noqa: F811
    url = await served.link("ana", "finance")
    base = url.rpartition("/")[0]
    headers = {"Content-Type": kind}
    async with served.client.post(f"{base}/x.y", data=body, headers=headers) as reply:
        assert reply.status in (400, 403, 413), await reply.text()
        assert reply.headers["Cache-Control"] == "no-store"


async def test_a_link_is_looked_at_before_its_body_is_waited_for(served: Served) -> None:  # noqa: F811
    there = urlsplit(await served.link("ana", "finance"))
    reader, writer = await asyncio.open_connection(there.hostname, there.port)
    writer.write(
        b"POST /approvals/link/x.y HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 3)
    except TimeoutError:
        head = b"nothing"
    writer.close()
    assert b"403" in head, head


def test_the_log_names_the_address_that_is_locked_out() -> None:
    """As the runbook of AegisCredentialsGuessed says (deploy/prometheus/README.md)."""
    stream = io.StringIO()
    logs = Logs(monotonic_ns=lambda: 0, stream=stream)
    try:
        logging.getLogger("aegis.identity").warning(
            "too many keys failed from one address; it is locked out for a while",
            extra={"source_ip": "192.0.2.7"},
        )
    finally:
        logs.stop()
    assert "192.0.2.7" in stream.getvalue(), stream.getvalue()
