"""Differences between readers that the wire run found, and that the sidecar refuses since."""

from __future__ import annotations

import http.client
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "fuzz"), str(HERE.parent / "e2e")]

from fuzz_check import CATALOGUES
from running import Process, free_port

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
FORM_HEAD = b"Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A sidecar before an upstream that does not answer: what is let through ends as 502."""
    process = Process(tmp_path_factory.mktemp("known"))
    process.write(
        f"  up: {{url: 'http://127.0.0.1:{free_port()}'}}\n"
        f"  tools: {{url: 'http://127.0.0.1:{free_port()}/mcp', kind: mcp}}",
        CATALOGUES,
    )
    process.start()
    yield process
    process.kill()


def status(sidecar: Process, body: bytes, method: str = "POST", path: str = "/up/form") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.data_port, timeout=10)
    try:
        connection.request(method, path, body, FORM)
        return connection.getresponse().status
    finally:
        connection.close()


def test_b10_a_form_is_let_through(sidecar: Process) -> None:
    assert status(sidecar, b"a=1&b=x+y%0A") == 502


@pytest.mark.parametrize("blanks", [b" ", b"\n", b"\r\n", b"\t", b"\x0b", b"\x1c"])
def test_b10_a_form_with_blanks_at_its_end_is_refused(sidecar: Process, blanks: bytes) -> None:
    """aiohttp reads b without the blanks, others with them."""
    assert status(sidecar, b"a=1&b=secret" + blanks) == 400


def test_b10_a_form_in_the_body_of_a_get_is_refused(sidecar: Process) -> None:
    """aiohttp passes it over with GET, HEAD and OPTIONS, others read it."""
    assert status(sidecar, b"", "GET", "/up/items/7") == 502, "positive control"
    assert status(sidecar, b"P=", "GET", "/up/items/7") == 400


@pytest.mark.parametrize(
    ("between", "told"), [(b"", b"403"), (b"\r\n", b"403"), (b"\r", b"400"), (b"\n", b"400")]
)
def test_b3_what_comes_behind_a_lone_cr_is_no_request(
    sidecar: Process, between: bytes, told: bytes
) -> None:
    """The parser passes over CR and LF between two requests, whichever way they stand."""
    host = b"Host: localhost\r\n"
    first = b"POST /up/form HTTP/1.1\r\n" + host + FORM_HEAD + b"Content-Length: 3\r\n\r\na=1"
    # No rule lets this one through: its own refusal comes, not the answer to the first.
    second = b"DELETE /up/items/7 HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sidecar.data_port), timeout=10) as connection:
        connection.sendall(first + between + second)
        answers = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"502", told]
