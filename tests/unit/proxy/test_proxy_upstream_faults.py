"""Why an upstream failed stands in the log, with what to do, and nothing of what it sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from proxy_wire_setup import OK, Conversation, answering, raw_upstream, upstream_of

from sidecar.config.model import Pem, Secret, Upstream, UpstreamTls
from sidecar.errors import Refused
from sidecar.proxy import upstream_faults
from sidecar.proxy.upstream_lean import LeanLeg

CANARY = b"s3cret-of-the-answer"
PARTIAL = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbut"


@pytest.fixture
async def leg() -> AsyncIterator[LeanLeg]:
    made = LeanLeg()
    yield made
    await made.close()


async def failed(leg: LeanLeg, upstream: Upstream) -> str:
    with pytest.raises(Refused) as caught:
        reply = await leg.send(upstream, "GET", "/x", [], b"")
        with contextlib.closing(reply):
            async for _ in reply.chunks:
                pass
    return caught.value.code


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        {"event": one.msg, **{name: getattr(one, name) for name in ("cause", "next_step", "count")}}
        for one in caplog.records
        if one.name == "aegis.upstream" and one.levelno == logging.WARNING
    ]


@pytest.mark.parametrize(
    ("days", "host", "is_trusted", "cause", "step"),
    [
        (-2, "127.0.0.1", True, "certificate has expired", "Have it renewed"),
        (9, "127.0.0.2", True, "IP address mismatch", "Write in upstreams.up.url a name"),
        (9, "127.0.0.1", False, "unable to get local issuer", "upstreams.up.tls: {ca:"),
    ],
)
async def test_a_certificate_that_is_not_accepted(
    days: int, host: str, is_trusted: bool, cause: str, step: str, leg: LeanLeg, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    authority = Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign(days=days).write(tmp_path))
    pem = authority.pem if is_trusted else Authority("another").pem
    tls = UpstreamTls(ca=Pem(given=Secret(pem.decode())))
    server = await asyncio.start_server(lambda _, writer: writer.close(), host, 0, ssl=context)
    async with server:
        url = f"https://{host}:{server.sockets[0].getsockname()[1]}"
        assert await failed(leg, upstream_of(0, url=url, tls=tls)) == "upstream_unreachable"
    [one] = told(caplog)
    assert one["event"] == "an upstream cannot be reached"
    assert cause in one["cause"] and step in one["next_step"], one


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("WRONG_VERSION_NUMBER", "the port that speaks TLS"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "TLS 1.2 or later"),
        ("UNSUPPORTED_PROTOCOL", "TLS 1.2 or later"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "or it wants a certificate (upstreams.up.tls.cert"),
        ("NO_SHARED_CIPHER", "ciphers and keys of today"),
        ("DH_KEY_TOO_SMALL", "ciphers and keys of today"),
        ("UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "TLS 1.2 or later"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "It wants a certificate that it knows"),
    ],
)
def test_a_handshake_that_fails(reason: str, step: str) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    cause, said = upstream_faults._tls(error, "upstreams.up")
    assert cause == f"TLS: {reason}" and step in said


@pytest.mark.parametrize(
    ("changes", "cause", "step"),
    [
        ({"url": "http://127.0.0.1:9"}, "127.0.0.1", "listens at upstreams.up.url"),
        ({"url": "http://localhost:9", "private": False}, "private address", "`private: true`"),
        ({"url": "http://127.0.0.1:9", "private": False}, "is private", "`private: true`"),
        ({"url": "http://nowhere.invalid"}, "its name is not found", "name servers"),
        # What metadata are asked of: the setting is that of the upstream itself.
        (
            {"name": "up//.well-known/x", "url": "http://127.0.0.1:9"},
            "127.0.0.1",
            "upstreams.up.url",
        ),
    ],
)
async def test_b25_an_address_that_leads_nowhere_or_may_not(
    changes: dict[str, Any], cause: str, step: str, leg: LeanLeg,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    assert await failed(leg, upstream_of(9, **changes)) == "upstream_unreachable"
    [one] = told(caplog)
    assert cause in one["cause"] and step in one["next_step"], one


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def _waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("talk", "code", "cause"),
    [
        (answering(b"RTSP/1.0 200 " + CANARY), "upstream_broken", "no status line"),
        (answering(b"HTTP/1.1 200 OK\r\nX: \x01" + CANARY + b"\r\n\r\n"), "upstream_broken", ""),
        # Not what it would be after a wait: that it needs longer.
        (answering(b"HTTP/1.1 200 OK\nX: " + CANARY + b"\n\nok"), "upstream_broken", "LF alone"),
        (_silent, "upstream_broken", "it closed"),
        (answering(PARTIAL), "upstream_timeout", "no answer, or no more of it"),
        (_waits, "upstream_timeout", "no answer, or no more of it"),
    ],
)
async def test_g5_an_answer_that_does_not_come_or_is_none(
    talk: Conversation, code: str, cause: str, leg: LeanLeg, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_upstream(talk) as server:
        upstream = upstream_of(server.port, response_s=0.1, idle_s=0.1)
        assert await failed(leg, upstream) == code
    [one] = told(caplog)
    assert cause in one["cause"]
    assert CANARY.decode() not in repr([vars(record) for record in caplog.records])


async def test_a_cause_is_told_once_and_again_with_how_often_it_was_met(
    leg: LeanLeg, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = upstream_of(9)
    for _ in range(5):
        await failed(leg, upstream)
    assert [one["count"] for one in told(caplog)] == [1]
    faults = leg._link(upstream)._faults
    faults._now_s = lambda: asyncio.get_running_loop().time() + upstream_faults.SILENT_S
    await failed(leg, upstream)
    assert [one["count"] for one in told(caplog)] == [1, 5]
    for number in range(50):
        faults.met(Refused("upstream_broken", detail=f"{number}"))
    assert len(faults._causes) == upstream_faults.CAUSES_MAX


async def test_what_went_well_or_was_ended_by_us_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leg = LeanLeg()
    async with raw_upstream(answering(OK)) as server:
        reply = await leg.send(upstream_of(server.port), "GET", "/x", [], b"")
        reply.close()
    async with raw_upstream(_waits) as server:
        slow = upstream_of(server.port, name="slow")
        asked = asyncio.ensure_future(leg.send(slow, "GET", "/x", [], b""))
        await asyncio.sleep(0.05)
        await leg.close()
        with pytest.raises(Refused):
            await asked
    assert told(caplog) == []
