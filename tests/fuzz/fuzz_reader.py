"""One strict reader of HTTP/1.1 and of JSON, written apart from the product's.

Knows: RFC 9112 read to the letter, with nothing repaired, and I-JSON by Python's own json. It
reads what the harness sent (what may be forwarded at all) and what the upstream received.
Must not know: the sidecar.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Two leniencies of the sidecar's parser that change nothing of what is forwarded: more than one
#: space between the parts (RFC 9112 section 3), and the name of HTTP's sibling in its place. A
#: third is that it passes over CR and LF in any order before a request (`read_all`).
REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]*) +(/[!-~]*) +(?:HTTP|RTSP)/1\.([01])")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
INTEGER_MAX = 2**53 - 1
DEPTH_MAX = 64


class Unclear(Exception):
    """What was read can be read in more than one way."""


class Unfinished(Exception):
    """More bytes are needed."""


@dataclass
class Message:
    """A request, read strictly. `headers` in order, names in lower case."""

    method: str
    target: str
    headers: list[tuple[str, bytes]]
    body: bytes = b""
    minor: int = 1
    trailers: list[tuple[str, bytes]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        for known, value in self.headers:
            if known == name:
                return value.decode("utf-8", "replace")
        return None

    def count(self, name: str) -> int:
        return sum(1 for known, _ in self.headers if known == name)


def read_all(data: bytes) -> tuple[list[Message], str]:
    """The messages one after the other, and why the reading ended: "", "unclear" or "open".

    What stands between two of them is nobody's: each is judged by itself and written anew.
    """
    messages: list[Message] = []
    while data := data.lstrip(b"\r\n"):
        try:
            message, data = read_one(data)
        except Unclear:
            return messages, "unclear"
        except Unfinished:
            return messages, "open"
        messages.append(message)
    return messages, ""


def read_one(data: bytes) -> tuple[Message, bytes]:
    """The first message of `data`, and what follows it."""
    # RFC 9112 section 2.2: empty lines before a request are passed over, a lone LF being one.
    while data.startswith((b"\r\n", b"\n")):
        data = data.partition(b"\n")[2]
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        raise Unfinished
    lines = head.split(b"\r\n")
    match = REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise Unclear("request line")
    message = Message(
        match.group(1).decode(), match.group(2).decode(), _fields(lines[1:]), b"", int(match[3])
    )
    if message.count("host") != 1:
        raise Unclear("host")
    return _with_body(message, rest)


def _fields(lines: list[bytes]) -> list[tuple[str, bytes]]:
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not (colon and TOKEN.fullmatch(name) and VALUE.fullmatch(value)):
            raise Unclear("header")
        fields.append((name.decode().lower(), value.strip(b" \t")))
    return fields


def _with_body(message: Message, rest: bytes) -> tuple[Message, bytes]:
    lengths = [value for name, value in message.headers if name == "content-length"]
    encodings = [value for name, value in message.headers if name == "transfer-encoding"]
    if encodings:
        if lengths or message.minor == 0 or [e.lower() for e in encodings] != [b"chunked"]:
            raise Unclear("transfer-encoding")
        return _with_chunks(message, rest)
    if not lengths:
        return message, rest
    if len(lengths) != 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise Unclear("content-length")
    size = int(lengths[0])
    if len(rest) < size:
        raise Unfinished
    message.body = rest[:size]
    return message, rest[size:]


def _with_chunks(message: Message, rest: bytes) -> tuple[Message, bytes]:
    pieces, at = [], 0
    while True:
        line, at = _line(rest, at)
        match = CHUNK.fullmatch(line)
        if match is None:
            raise Unclear("chunk")
        size = int(match.group(1), 16)
        if size == 0:
            break
        if len(rest) < at + size + 2:
            raise Unfinished
        pieces.append(rest[at : at + size])
        at += size + 2
        if rest[at - 2 : at] != b"\r\n":
            raise Unclear("chunk end")
    while True:
        line, at = _line(rest, at)
        if not line:
            break
        message.trailers += _fields([line])
    message.body = b"".join(pieces)
    return message, rest[at:]


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    """The line that begins at `at`, and where the next one begins."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Unfinished
    return data[at:end], end + 2


def strict_json(body: bytes) -> Any:
    """The value of one I-JSON document; raises Unclear."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [unicodedata.normalize("NFC", name) for name, _ in pairs]
        if len(set(names)) != len(names):
            raise Unclear("a name twice")
        return dict(pairs)

    def constant(_: str) -> None:
        raise Unclear("no JSON number")

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=members, parse_constant=constant)
        _require_plain(value, 1)
    except (ValueError, RecursionError) as error:
        raise Unclear(str(error)) from None
    return value


def _require_plain(value: Any, depth: int) -> None:
    if type(value) in (dict, list):
        if depth > DEPTH_MAX:
            raise Unclear("depth")
        for item in [*value, *value.values()] if type(value) is dict else value:
            _require_plain(item, depth + 1)
    elif type(value) is str:
        if "\0" in value:
            raise Unclear("NUL")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise Unclear("surrogate") from None
    elif type(value) is float:
        if not math.isfinite(value):
            raise Unclear("overflow")
    elif type(value) is int and abs(value) > INTEGER_MAX:
        raise Unclear("integer")
