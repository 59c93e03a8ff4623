"""Multipart forms: what the sidecar reads, three other readers read alike; the rest is refused.

werkzeug, aiohttp and python-multipart stand for the servers behind a sidecar. Bodies are mutated
from good ones; each that is accepted must give every reader the same names, file names and bytes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from io import BytesIO
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl

import pytest
from aiohttp import MultipartReader, StreamReader
from python_multipart.multipart import MultipartParser, parse_options_header
from werkzeug.formparser import parse_form_data
from werkzeug.wrappers import Request
from yarl import URL

from sidecar.errors import Refused
from sidecar.proxy.dialects import multipart
from sidecar.proxy.dialects.multipart import Part, read_parts
from sidecar.proxy.dialects.rest_arguments import _read_pairs, _text

#: Name, file name (None for a field) and content of each part, in the order of the body.
Read = list[tuple[str, str | None, bytes]]

GOOD = (
    b'--B0\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n--B0--\r\n',
    b'--B0\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n'
    b'--B0\r\nContent-Disposition: form-data; name="f"; filename="x.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\nline\r\nline\n\r\n--B0--\r\n",
    b'--B0\r\nContent-Disposition: form-data; name="\xc3\xa9"; filename="\xc3\xa9 (1).txt"\r\n'
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"\x00\xff--B\r\n--\r\n--B0--",
)
PIECES = (
    b"\r\n", b"\n", b"\r", b"--B0", b"\r\n--B0\r\n", b"\n--B0\n", b"--B0--", b"--B0--\r\n", b"--",
    b" ", b"\t", b'"', b"\\", b"\\\"", b";", b"=", b"%22", b"%0D%0A", b"*", b"name=x", b"\x00",
    b"; name=\"b\"", b"; filename=\"y\"", b"; filename*=utf-8''z", b"filename=", b"B0", b"\xff",
    b"\r\nContent-Disposition: form-data; name=c\r\n", b"Content-Type: text/plain\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b":", b",", b"\x0b", b"\xc2\x85", b"/", b"..", b"'",
)  # fmt: skip


def by_us(body: bytes) -> Read:
    """The names and files the arguments are made of; fields are held to UTF-8 as there."""
    found = [(one.name, one.filename, one.content) for one in read_parts(body, "B0", 100)]
    for _, filename, content in found:
        if filename is None:
            _text(content)
    return found


def by_werkzeug(body: bytes) -> Read:
    environ = {
        "wsgi.input": BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "multipart/form-data; boundary=B0",
        "REQUEST_METHOD": "POST",
    }
    _, form, files = parse_form_data(environ, silent=False)
    found: Read = [(name, None, value.encode()) for name, value in form.items(multi=True)]
    for name, file in files.items(multi=True):
        found.append((name, file.filename, file.stream.read()))
        file.close()
    return found


def by_aiohttp(body: bytes) -> Read:
    async def read() -> Read:
        stream = StreamReader(mock.Mock(_reading_paused=False), 2**20)
        stream.feed_data(body)
        stream.feed_eof()
        reader = MultipartReader({"Content-Type": "multipart/form-data; boundary=B0"}, stream)
        found: Read = []
        async for part in reader:
            found.append((part.name, part.filename, bytes(await part.read(decode=True))))
        return found

    return asyncio.run(read())


def by_python_multipart(body: bytes) -> Read:
    found: Read = []
    headers: dict[str, bytes] = {}
    now = {"field": b"", "value": b"", "data": b""}

    def add(key: str) -> Any:
        def on_data(data: bytes, start: int, end: int) -> None:
            now[key] += data[start:end]

        return on_data

    def on_begin() -> None:
        headers.clear()
        now["data"] = b""

    def on_header_end() -> None:
        headers[now["field"].decode().lower()] = now["value"]
        now["field"] = now["value"] = b""

    def on_end() -> None:
        _, options = parse_options_header(headers["content-disposition"])
        filename = options.get(b"filename")
        shown = None if filename is None else filename.decode()
        found.append((options[b"name"].decode(), shown, now["data"]))

    parser = MultipartParser(
        b"B0",
        {
            "on_part_begin": on_begin,
            "on_header_field": add("field"),
            "on_header_value": add("value"),
            "on_header_end": on_header_end,
            "on_part_data": add("data"),
            "on_part_end": on_end,
        },
    )
    parser.write(body)
    parser.finalize()
    return found


GOOD_PAIRS = ("a=1&b=x+y", "a=%C3%A9&b=&c", "a%5B0%5D=1&a.b=%2526&c=a%3Db")
PAIR_PIECES = (
    "&", "&&", ";", "=", "==", "+", "%", "%2", "%zz", "%00", "%ff", "%26", "%3D", "%2B", "%u00e9",
    "?", "[]", "a", "%0d%0a", "%EF%BB%BF", ",", "\\", '"',
)  # fmt: skip


def pairs_by_us(text: str) -> list[tuple[str, str]]:
    found = _read_pairs(text, 100)
    return sorted((name, value) for name, values in found.items() for value in values)


PAIR_READERS: dict[str, Callable[[str], list[tuple[str, str]]]] = {
    "urllib": lambda text: parse_qsl(text, keep_blank_values=True),
    "yarl": lambda text: list(URL(f"http://x/?{text}", encoded=True).query.items()),
    "werkzeug": lambda text: list(
        Request({"QUERY_STRING": text, "REQUEST_METHOD": "GET"}).args.items(multi=True)
    ),
}


def test_b10_what_two_readers_of_a_query_read_differently_is_refused() -> None:
    chance = random.Random(10)
    accepted = refused = 0
    for _ in range(4000):
        text = chance.choice(GOOD_PAIRS)
        for _ in range(chance.randint(0, 3)):
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice(PAIR_PIECES) + text[at + chance.randint(0, 2) :]
        try:
            ours = pairs_by_us(text)
        except Refused:
            refused += 1
            continue
        accepted += 1
        for name, reader in PAIR_READERS.items():
            assert sorted(reader(text)) == ours, (name, text)
    assert accepted > 500 and refused > 500


OTHERS = {
    "werkzeug": by_werkzeug,
    "aiohttp": by_aiohttp,
    "python-multipart": by_python_multipart,
}


def mutated(chance: random.Random) -> bytes:
    body = chance.choice(GOOD)
    for _ in range(chance.randint(0, 2)):
        at, to = chance.randrange(len(body) + 1), chance.randrange(len(body) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            body = body[:at] + chance.choice(PIECES) + body[at:]
        elif kind == 1:
            old = chance.choice(PIECES)
            body = body.replace(old, chance.choice(PIECES), 1) if old in body else body
        elif kind == 2:
            body = body[:at] + body[at + chance.randint(1, 3) :]
        else:
            body = body[: min(at, to)] + body[max(at, to) :]
    return body


def differing(seed: int, count: int) -> tuple[list[str], int, int]:
    """Who read an accepted body otherwise; how many bodies were accepted, how many refused."""
    chance = random.Random(seed)
    found: list[str] = []
    accepted = refused = 0
    for _ in range(count):
        body = mutated(chance)
        try:
            ours = by_us(body)
        except Refused as reason:
            assert reason.status in (400, 415)
            refused += 1
            continue
        accepted += 1
        for name, reader in OTHERS.items():
            try:
                theirs: Any = reader(body)
            except Exception as error:
                # A server that refuses what was judged does no harm: nothing else is read.
                theirs = error if isinstance(error, AssertionError) else None
            if theirs is None:
                continue
            if sorted(theirs, key=repr) != sorted(ours, key=repr):
                found.append(f"{name}: {body!r}: {theirs} is not {ours}")
    return found, accepted, refused


@pytest.mark.filterwarnings("ignore")
def test_b18_what_two_readers_read_differently_is_refused() -> None:
    found, accepted, refused = differing(seed=18, count=1500)
    assert found == []
    assert accepted > 150 and refused > 500


@pytest.mark.parametrize("body", GOOD)
@pytest.mark.parametrize("name", OTHERS)
def test_b18_the_other_readers_do_read_the_good_ones(name: str, body: bytes) -> None:
    """Without this, a reader that refuses everything would agree with everything."""
    assert sorted(OTHERS[name](body), key=repr) == sorted(by_us(body), key=repr)


@pytest.mark.filterwarnings("ignore")
def test_b18_planted_a_laxer_reader_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness finds a reader that takes the text between two boundaries for what it is."""

    def lax(piece: bytes) -> Part:
        head, _, content = piece.strip(b"\r\n").partition(b"\r\n\r\n")
        name = head.split(b'name="')[1].split(b'"')[0]
        filename = head.split(b'filename="')[1].split(b'"')[0] if b"filename" in head else None
        return Part(name.decode(), None if filename is None else filename.decode(), "", content)

    def forgiving(piece: bytes) -> Part:
        try:
            return lax(piece)
        except (IndexError, UnicodeDecodeError):
            raise Refused("invalid_form") from None

    monkeypatch.setattr(multipart, "_part", forgiving)
    found, _, _ = differing(seed=18, count=300)
    assert {one.partition(":")[0] for one in found} == set(OTHERS)
