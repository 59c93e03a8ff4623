"""An upstream's reply head, checked as strictly as a request's.

Knows: header syntax and message framing (RFC 9112 section 6). Must not know: sockets, the agent.
"""

from __future__ import annotations

import re
from functools import lru_cache

from aiohttp.http_parser import RawResponseMessage

from sidecar.errors import Refused
from sidecar.proxy.upstream import Headers

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"[0-9]{1,19}")
_FORBIDDEN = re.compile(rb"[\x00\r\n]")


@lru_cache(maxsize=2048)
def _name(raw: bytes) -> tuple[str, str] | None:
    """A header name and its lower-case form; None if it is no token."""
    if not _TOKEN.fullmatch(raw):
        return None
    name = raw.decode("ascii")
    return name, name.lower()


def checked_headers(message: RawResponseMessage) -> Headers:
    """The headers of a reply, in order; raises Refused("upstream_broken").

    The parser before this is lenient on purpose; two readers of a lenient head may differ.
    """
    if message.version not in ((1, 1), (1, 0)) or message.code > 599:
        raise Refused("upstream_broken", detail="version or status")
    if _FORBIDDEN.search(b"".join([raw_value for _, raw_value in message.raw_headers])):
        raise Refused("upstream_broken", "The upstream sent a malformed header")
    headers: list[tuple[str, str]] = []
    lengths: list[str] = []
    encodings: list[str] = []
    for raw_name, raw_value in message.raw_headers:
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
        _require_framing(lengths, encodings, message)
    return tuple(headers)


def _require_framing(lengths: list[str], encodings: list[str], message: RawResponseMessage) -> None:
    is_sound = len(lengths) + len(encodings) == 1
    if lengths:
        is_sound = is_sound and lengths[0].isascii() and lengths[0].isdigit()
    else:
        is_sound = is_sound and encodings[0].lower() == "chunked" and message.version == (1, 1)
    if not is_sound:
        raise Refused("upstream_broken", "The upstream's reply can be framed in two ways")
