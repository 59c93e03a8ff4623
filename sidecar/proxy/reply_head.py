"""An upstream's reply head, checked as strictly as a request's.

Knows: header syntax and message framing (RFC 9112 section 6), for a head that a lenient parser
split (`checked_headers`) and for one that a strict parser let pass as it came (`read_headers`).
Must not know: sockets, the agent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from sidecar.errors import Refused
from sidecar.proxy.upstream import Headers

HEADERS_MAX = 256

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"[0-9]{1,19}")
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_FRAMING_SIZES = frozenset(map(len, _FRAMING))
_HTTP_1_1 = b"HTTP/1.1 "
_FORBIDDEN = re.compile(rb"[\x00\r\n]")


@lru_cache(maxsize=2048)
def _name(raw: bytes) -> tuple[str, str] | None:
    """A header name and its lower-case form; None if it is no token."""
    if not _TOKEN.fullmatch(raw):
        return None
    name = raw.decode("ascii")
    return name, name.lower()


def checked_headers(
    status: int, version: tuple[int, int], raw_headers: Sequence[tuple[bytes, bytes]]
) -> Headers:
    """The headers of a final reply, in order; raises Refused("upstream_broken").

    A parser before this may be lenient on purpose; two readers of a lenient head may differ.
    """
    if version not in ((1, 1), (1, 0)) or not 200 <= status <= 599:
        raise Refused("upstream_broken", detail="version or status")
    if _FORBIDDEN.search(b"".join([raw_value for _, raw_value in raw_headers])):
        raise Refused("upstream_broken", "The upstream sent a malformed header")
    headers: list[tuple[str, str]] = []
    lengths: list[str] = []
    encodings: list[str] = []
    for raw_name, raw_value in raw_headers:
        name = _name(raw_name)
        if name is None:
            raise Refused("upstream_broken", "The upstream sent a malformed header")
        value = raw_value.decode("utf-8", "surrogateescape")
        if name[1] == "content-length":
            lengths.append(value)
        elif name[1] == "transfer-encoding":
            encodings.append(value)
        headers.append((name[0], value))
    if encodings or (lengths and not (len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]))):
        _require_framing(lengths, encodings, version)
    return tuple(headers)


def _require_framing(lengths: list[str], encodings: list[str], version: tuple[int, int]) -> None:
    is_sound = len(lengths) + len(encodings) == 1
    if lengths:
        is_sound = is_sound and lengths[0].isascii() and lengths[0].isdigit()
    else:
        is_sound = is_sound and encodings[0].lower() == "chunked" and version == (1, 1)
    if not is_sound:
        raise Refused("upstream_broken", "The upstream's reply can be framed in two ways")


def read_headers(status: int, head: bytes) -> Headers:
    """The headers of a head that a strict parser accepted; raises Refused("upstream_broken").

    `head` is the whole of it without its last line end, status line included. The parser saw to it
    that lines end in CR LF alone, none goes on in the next, names are tokens and values hold no
    controls.
    """
    if not 100 <= status <= 599:
        raise Refused("upstream_broken", detail="status")
    headers: list[tuple[str, str]] = []
    found: list[str] = []
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    del lines[0]
    if len(lines) > HEADERS_MAX:
        raise Refused("upstream_broken", "The upstream sent too many headers")
    for line in lines:
        name, _, value = line.partition(":")
        value = value.strip(" \t")
        if len(name) in _FRAMING_SIZES and name.lower() in _FRAMING:
            found.append(f"{name.lower()}:{value}")
        headers.append((name, value))
    if found:
        _require_one_framing(found, head.startswith(_HTTP_1_1))
    return tuple(headers)


def _require_one_framing(found: list[str], is_http_1_1: bool) -> None:
    name, _, value = found[0].partition(":")
    if name == "content-length":
        is_sound = value.isascii() and value.isdigit()
    else:
        is_sound = value.lower() == "chunked" and is_http_1_1
    if len(found) > 1 or not is_sound:
        raise Refused("upstream_broken", "The upstream's reply can be framed in two ways")


def framing(headers: Headers) -> list[str]:
    """The values of the headers that say where a body ends."""
    return [value for name, value in headers if name.lower() in _FRAMING]
