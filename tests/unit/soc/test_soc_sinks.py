"""Every kind of sink against a real receiver on loopback, also one that means no good (G11)."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import io
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TextIO

import certificates
import pytest
from soc_receivers import Receiver, answered, gathering
from test_soc_sink_forms import made

from sidecar.config.model import Pem, Secret, UpstreamTls
from sidecar.config.model import Sink as Settings
from sidecar.lookups import OwnThreadResolver
from sidecar.soc.sinks import http_post, seam, syslog
from sidecar.soc.sinks.registry import SINKS, Means, made_sink
from sidecar.soc.sinks.seam import NotDelivered, Sink
from sidecar.telemetry.lines import WAITING_MAX

NOW_US = 1_790_000_000_999_999
KEY = "k" * 16


def sink_at(url: str, kind: str = "webhook", stdout: TextIO | None = None, **more: Any) -> Sink:
    given = {"private": True, "secret": Secret(KEY) if kind == "webhook" else None, **more}
    settings = Settings(name="ops", kind=kind, url=Secret(url), **given)  # type: ignore[arg-type]
    return made_sink(settings, Means(OwnThreadResolver(), lambda: NOW_US, "n1", stdout))


async def refused(sink: Sink) -> NotDelivered:
    """Why it was not delivered."""
    try:
        with pytest.raises(NotDelivered) as caught:
            await sink.send(made("alert"))
    finally:
        await sink.close()
    return caught.value


def test_every_kind_is_in_the_registry_and_nothing_else() -> None:
    assert set(SINKS) == {"webhook", "slack", "syslog", "stdout"}


async def test_a_webhook_is_signed_over_time_and_body() -> None:
    async with Receiver().serving() as receiver:
        sink = sink_at(receiver.url)
        await sink.send(made("alert"))
        await sink.close()
    (got,) = receiver.got
    assert got.line == "POST /T0/hunter2secret HTTP/1.1"
    assert got.headers["Aegis-Timestamp"] == "1790000000"
    signed = hmac.digest(KEY.encode(), b"1790000000." + got.body, "sha256").hex()
    assert got.headers["Aegis-Signature"] == f"v1={signed}"
    assert got.headers["Aegis-Delivery"] == json.loads(got.body)["delivery_id"]
    assert got.headers["Content-Type"] == "application/json"
    assert not {"Cookie", "Authorization"} & set(got.headers)


async def test_slack_is_posted_as_json() -> None:
    async with Receiver().serving() as receiver:
        sink = sink_at(receiver.url, "slack")
        await sink.send(made("alert"))
        await sink.close()
    assert json.loads(receiver.got[0].body)["text"].startswith("*Alert* (CRITICAL)")
    assert "Aegis-Signature" not in receiver.got[0].headers


@pytest.mark.parametrize(
    ("answer", "said", "is_final", "wait_s"),
    [
        (answered(500, b"boom\x1b[2J"), "it answered 500: boom\\u001b[2J", False, 0),
        (answered(404, b"no /T0/hunter2secret here"), "it answered 404: no /T0/*** here", False, 0),
        (answered(410), "it answered 410", True, 0),
        (answered(429, b"", "Retry-After: 30"), "it answered 429", False, 30),
        (answered(429, b"", "Retry-After: 999999999"), "it answered 429", False, 3600),
        (answered(429, b"", "Retry-After: -5"), "it answered 429", False, 0),
        (answered(500, gzip.compress(b"0" * 9_000_000), "Content-Encoding: gzip"), None, False, 0),
        (b"SMTP 220 hello\r\n\r\n", "not reached: ClientResponseError", False, 0),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", None, False, 0),
        (b"", "not reached: ServerDisconnectedError", False, 0),
    ],
)
async def test_g11_an_answer_that_is_no_yes_is_told_in_few_words(
    answer: bytes, said: str | None, is_final: bool, wait_s: float
) -> None:
    async with Receiver(answer).serving() as receiver:
        error = await refused(sink_at(receiver.url))
    assert said is None or error.said == said
    assert (error.is_final, error.wait_s) == (is_final, wait_s)
    assert len(error.said) <= seam.SAID_CHARACTERS_MAX and "hunter2" not in error.said
    assert error.said.isprintable()
    assert "000000" not in error.said, "nothing is unpacked"


async def test_g11_a_redirect_is_not_followed() -> None:
    async with Receiver().serving() as other:
        answer = answered(307, b"", f"Location: {other.url}")
        async with Receiver(answer).serving() as receiver:
            error = await refused(sink_at(receiver.url))
        assert error.said == "it answered 307; a redirect is not followed"
        assert (len(receiver.got), other.connections) == (1, 0)


Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 X\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def _drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n" * 50:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def _says_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("act", [_drips, _says_nothing])
async def test_g11_a_slow_answer_is_waited_for_so_long_only(
    act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_post, "ATTEMPT_S", 0.3)
    began = time.monotonic()
    async with Receiver(act=act).serving() as receiver:
        error = await refused(sink_at(receiver.url))
    assert error.said == "no answer within 0.3 s"
    assert time.monotonic() - began < 3


async def test_g11_who_never_reads_is_waited_for_so_long_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_post, "ATTEMPT_S", 0.3)
    async with Receiver(reads=False).serving() as receiver:
        assert (await refused(sink_at(receiver.url))).said == "no answer within 0.3 s"


async def test_g11_of_an_answer_without_end_only_the_beginning_is_read() -> None:
    async with Receiver(act=_without_end).serving() as receiver:
        began = time.monotonic()
        error = await refused(sink_at(receiver.url))
    assert error.said.startswith("it answered 500: xxx")
    assert time.monotonic() - began < 3


async def test_b25_a_name_that_leads_to_a_private_address_is_not_connected_to() -> None:
    async with Receiver().serving() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        for wanted in (url, receiver.url):
            error = await refused(sink_at(wanted, private=False))
            assert "private" in error.said, error.said
        assert receiver.connections == 0
        sink = sink_at(url)
        await sink.send(made("alert"))
        await sink.close()
        assert receiver.connections == 1, "positive control"


async def test_a_sink_whose_certificate_nobody_vouches_for_is_not_told(tmp_path: Path) -> None:
    authority = certificates.Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign().write(tmp_path))
    tls = UpstreamTls(ca=Pem(given=Secret(authority.pem.decode())))
    async with Receiver().serving(context) as receiver:
        url = receiver.url.replace("http:", "https:")
        assert (await refused(sink_at(url))).said == "its certificate is not trusted"
        assert receiver.got == []
        sink = sink_at(url, tls=tls)
        await sink.send(made("alert"))
        await sink.close()
        assert len(receiver.got) == 1, "positive control"
    async with gathering(context) as (port, kept):
        url = f"syslog+tls://127.0.0.1:{port}"
        assert (await refused(sink_at(url, "syslog"))).said == "its certificate is not trusted"
        await sink_at(url, "syslog", tls=tls).send(made("alert"))
        await _until(lambda: any(kept))
        (message,) = filter(None, kept)
    assert_counted(message)


def assert_counted(message: bytes) -> None:
    length, _, rest = message.partition(b" ")
    assert int(length) == len(rest)
    assert rest.startswith(b"<106>1 2026-09-21T14:13:20.123456Z n1 aegis-sidecar - alert.opened")


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_syslog_over_tcp_is_counted_in_octets() -> None:
    async with gathering() as (port, kept):
        await sink_at(f"syslog+tcp://127.0.0.1:{port}", "syslog").send(made("alert"))
        await _until(lambda: bool(kept))
    assert_counted(kept[0])


async def test_syslog_over_udp_is_one_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        await sink_at(f"syslog://127.0.0.1:{server.getsockname()[1]}", "syslog").send(made("alert"))
        message = server.recv(65_536)
    assert message.startswith(b"<106>1 ") and message.endswith(b"cs4=a1")


async def test_g11_a_syslog_server_that_is_not_there_or_breaks_off() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        said = (await refused(sink_at(f"syslog+tcp://127.0.0.1:{port}", "syslog"))).said
    assert said.startswith("not reached: ")

    async def breaks(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    server = await asyncio.start_server(breaks, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = (await refused(sink_at(f"syslog+tcp://127.0.0.1:{port}", "syslog"))).said
    server.close()
    assert said.startswith("not reached: ")


async def test_g11_a_syslog_server_that_never_reads_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syslog, "END_S", 0.1)
    async with Receiver(reads=False).serving() as receiver:
        began = time.monotonic()
        await sink_at(f"syslog+tcp://127.0.0.1:{receiver.port}", "syslog").send(made("alert"))
        assert time.monotonic() - began < 2, "it was sent; syslog has no answer"


async def test_standard_output_gets_a_line_for_each() -> None:
    stream = io.StringIO()
    sink = sink_at("", "stdout", stream)
    await asyncio.gather(*(sink.send(made(name)) for name in ("alert", "hostile", "test")))
    await sink.close()
    lines = stream.getvalue().splitlines()
    assert sorted(json.loads(line)["kind"] for line in lines) == [
        "alert.opened", "approval.requested", "test",
    ]  # fmt: skip


async def test_g11_standard_output_that_nobody_reads_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.soc.sinks.stdout.ATTEMPT_S", 0.2)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        sink = sink_at("", "stdout", stream)
        outcomes = await asyncio.gather(
            *(sink.send(made("alert")) for _ in range(WAITING_MAX + 300)), return_exceptions=True
        )
        failed = [one for one in outcomes if isinstance(one, NotDelivered)]
        assert 0 < len(failed) < len(outcomes)
        assert {one.said for one in failed} == {"standard output is not read"}
        drain = threading.Thread(target=lambda: os.read(reading, 1) and _read_on(reading))
        drain.start()
        await sink.close()
        await _until(lambda: not any(t.name == "lines" and t.is_alive() for t in _threads()))
    drain.join()
    os.close(reading)


def _threads() -> list[threading.Thread]:
    return threading.enumerate()


def _read_on(reading: int) -> None:
    while os.read(reading, 65_536):
        pass
