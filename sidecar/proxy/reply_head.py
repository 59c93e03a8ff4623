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
_FRAMING = frozenset({"content-length", "transfer-encoding"})
#: A line end, a name, optional space, a value: one match for each line after the first.
_FIELD = re.compile(r"\n([^:\n]+):[ \t]*(.*)")
_LENGTH_LINE = "\ncontent-length:"
_HTTP_1_1 = b"HTTP/1.1 "
_FORBIDDEN = re.compile(rb"[\x00\r\n]")


@lru_cache(maxsize=2048)
def _name(raw: bytes) -> str | None:
    """A header name; None if it is no token."""
    return raw.decode("ascii") if _TOKEN.fullmatch(raw) else None


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
    for raw_name, raw_value in raw_headers:
        name = _name(raw_name)
        if name is None:
            raise Refused("upstream_broken", "The upstream sent a malformed header")
        headers.append((name, raw_value.decode("utf-8", "surrogateescape")))
    _require_one_framing(framing(headers), version == (1, 1))
    return tuple(headers)


def read_headers(status: int, head: bytes) -> Headers:
    """The headers of a head that a strict parser accepted; raises Refused("upstream_broken").

    `head` is the whole of it without its last line end, status line included. The parser saw to it
    that lines end in CR LF alone, none goes on in the next, names are tokens, values hold no
    controls, and that a Content-Length is a number.
    """
    if not 100 <= status <= 599:
        raise Refused("upstream_broken", detail="status")
    text = head.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    headers = _FIELD.findall(text)
    if len(headers) > HEADERS_MAX:
        raise Refused("upstream_broken", "The upstream sent too many headers")
    if " \n" in text or "\t" in text or text[-1] == " ":
        headers = [(name, value.rstrip(" \t")) for name, value in headers]
    lower = text.lower()
    length_at = lower.find(_LENGTH_LINE)
    if "\ntransfer-encoding:" in lower or 0 < length_at < lower.rfind(_LENGTH_LINE):
        _require_one_framing(framing(headers), head.startswith(_HTTP_1_1))
    return tuple(headers)


def _require_one_framing(found: list[tuple[str, str]], is_http_1_1: bool) -> None:
    is_sound = len(found) <= 1
    for name, value in found:
        if name == "content-length":
            is_sound = is_sound and value.isascii() and value.isdigit()
        else:
            is_sound = is_sound and value.lower() == "chunked" and is_http_1_1
    if not is_sound:
        raise Refused("upstream_broken", "The upstream's reply can be framed in two ways")


def framing(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that say where a body ends, their names in lower case."""
    return [(name.lower(), value) for name, value in headers if name.lower() in _FRAMING]
