"""The media type of an answer that is looked into, and the headers that speak of its very bytes.

Knows: that a type counts only if it stands there once and exactly, and the body is plain UTF-8:
what only looks like a stream of events is one to careless readers.
Must not know: what is in a body.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from sidecar.proxy.upstream import Headers

#: Of a body that has no one type, or that is not plain UTF-8.
UNCLEAR: Final = "?"

_CHARSETS: Final = ("", "utf-8", "utf8")
#: They speak of the very bytes that were there before.
_OF_THE_BYTES: Final = frozenset({"content-length", "content-digest", "etag", "repr-digest"})
#: Further ones that say of a body that nobody may add to it.
_EXACT: Final = _OF_THE_BYTES | {
    "content-md5", "content-range", "digest", "signature", "signature-input",
}  # fmt: skip


def exact_media(headers: Sequence[tuple[str, str]]) -> str:
    """The media type, exactly as it stands; "" without one, UNCLEAR of a body that has several, is
    compressed or not in UTF-8."""
    media: str | None = None
    for name, value in headers:
        lower = _lower(name)
        if lower == "content-type":
            media = _media(value) if media is None else UNCLEAR
        elif lower == "content-encoding" and value.strip().lower() not in ("", "identity"):
            return UNCLEAR
    return media or ""


@lru_cache(maxsize=256)
def _media(value: str) -> str:
    media, *parameters = (part.strip() for part in value.split(";"))
    for parameter in parameters:
        name, _, said = parameter.partition("=")
        if name.strip().lower() == "charset" and said.strip(' "').lower() not in _CHARSETS:
            return UNCLEAR
    return media.lower()


@lru_cache(maxsize=2048)
def _lower(name: str) -> str:
    return name.lower()


def takes_comments(status: int, headers: Sequence[tuple[str, str]]) -> bool:
    """Whether a body is a stream of events, and nothing says that its bytes must be these."""
    if status != 200 or exact_media(headers) != "text/event-stream":
        return False
    return all(_lower(name) not in _EXACT for name, _ in headers)


def without_bytes(headers: Headers) -> Headers:
    """The headers of an answer whose body is another now."""
    return tuple([pair for pair in headers if pair[0].lower() not in _OF_THE_BYTES])
