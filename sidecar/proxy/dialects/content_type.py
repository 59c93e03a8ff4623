"""Content-Type, read so that no two readers can differ on it.

Knows: media types with parameters (RFC 9110 section 8.3), which of them are JSON by another name.
JSON and forms are UTF-8 or refused.
Must not know: what is in a body, Content-Encoding (refused with the head).
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from sidecar.errors import Refused
from sidecar.proxy.head import RequestHead

FORM_DATA = "multipart/form-data"

#: What AWS's JSON protocols call the JSON they speak.
_OF_AWS = frozenset({"application/x-amz-json-1.0", "application/x-amz-json-1.1"})
_LINES_OF_JSON = frozenset(
    {"application/jsonl", "application/jsonlines", "application/ndjson", "application/x-ndjson"}
)

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - a grammar, no secret
#: Each piece is possessive, so that a hostile header costs one pass there and one back: what fits
#: in one way only needs no retry. What is made of pieces is not: before Python 3.11.5
#: such a group takes what does not fit (gh-106052).
_TYPE = re.compile(
    rf"({_TOKEN}/{_TOKEN})[ \t]*+((?:;[ \t]*+(?:{_TOKEN}=(?:{_TOKEN}|\"[^\"\\]*+\"))?[ \t]*+)*)"
)
_PARAMETER = re.compile(rf"({_TOKEN})=(?:({_TOKEN})|\"([^\"\\]*)\")")


class MediaType(NamedTuple):
    """`name` in lower case; `charset` in lower case and `boundary` as written, "" when none is
    given."""

    name: str
    charset: str
    boundary: str = ""

    @property
    def is_json(self) -> bool:
        """Whether a body of this type is JSON."""
        return is_json(self.name)

    @property
    def is_lines_of_json(self) -> bool:
        """Whether a body of this type is one JSON document a line."""
        return is_lines_of_json(self.name)


def is_json(name: str) -> bool:
    """Whether this media type, in lower case, is JSON."""
    return name == "application/json" or name.endswith("+json") or name in _OF_AWS


def is_lines_of_json(name: str) -> bool:
    """Whether this media type, in lower case, is one JSON document a line. Elasticsearch's own has
    the suffix."""
    return name in _LINES_OF_JSON or name.endswith(("+x-ndjson", "+ndjson"))


def media_type(head: RequestHead) -> MediaType | None:
    """The request's media type, None without one; raises Refused("unsupported_media_type")."""
    value = head.first.get("content-type")
    if value is None:
        return None
    return _read(value)


def require_utf8(media: MediaType) -> None:
    """Raises Refused("unsupported_media_type") for a charset that is not UTF-8."""
    if media.charset not in ("", "utf-8", "utf8"):
        raise Refused("unsupported_media_type", "Only UTF-8 is accepted")


def require_json(head: RequestHead) -> None:
    """Raises Refused("unsupported_media_type") unless the body is declared as UTF-8 JSON."""
    require_json_type(head.first.get("content-type"))


def require_json_type(value: str | None) -> None:
    """The same of the value of a header Content-Type, None without one."""
    media = None if value is None else _read(value)
    if media is None or media.name != "application/json":
        raise Refused("unsupported_media_type", "The body must be application/json")
    require_utf8(media)


@functools.lru_cache(maxsize=256)
def _read(value: str) -> MediaType:
    match = _TYPE.fullmatch(value.strip(" \t"))
    if match is None:
        raise Refused("unsupported_media_type", "Content-Type is malformed")
    charsets, boundaries = [], []
    for name, bare, quoted in _PARAMETER.findall(match.group(2)):
        if name.lower() == "charset":
            charsets.append((bare or quoted).lower())
        elif name.lower() == "boundary":
            boundaries.append(bare or quoted)
        elif match.group(1).lower() == FORM_DATA:  # boundary*, or what a naive reader takes for it
            raise Refused("unsupported_media_type", "The form's boundary is unclear")
    if len(charsets) > 1 or len(boundaries) > 1:
        raise Refused("unsupported_media_type", "Content-Type names a parameter twice")
    return MediaType(match.group(1).lower(), "".join(charsets), "".join(boundaries))
