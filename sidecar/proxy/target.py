"""One canonical reading of a request target, or a refusal.

Knows: origin-form (RFC 9112 section 3.2.1) and the ways in which a path can be read differently by
the next server: dot segments, empty segments, second decodings, backslashes, path parameters.
Nothing is repaired: the exact received bytes are what goes on to the upstream.
Must not know: sockets, headers, which upstreams exist.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from sidecar.errors import Refused

_CACHED_LENGTH_MAX = 512

_VISIBLE_ASCII = re.compile(r"[!-~]+")
_PATH_CHARACTERS = re.compile(r"[^\"<>\\^`{}#]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Path:
    """A checked path. `rest` are the received bytes after the first segment ("" or "/…").

    `segments` are what follows the first segment, decoded once; a trailing slash adds none.
    `has_parameters` says that one has a `;`, which some servers take for its end: of an id too.
    """

    upstream: str
    segments: tuple[str, ...]
    rest: str
    decoded: str
    has_encoded_slash: bool
    has_parameters: bool = False


def read_target(raw_target: str, parameters_max: int) -> tuple[Path, str]:
    """The path and the raw query of an origin-form target.

    Raises Refused: malformed_request, ambiguous_path, too_many_parameters.
    """
    if raw_target[:1] != "/" or not _VISIBLE_ASCII.fullmatch(raw_target):
        why = "The request target is not in origin form"
        if raw_target[:8].lower().startswith(("http://", "https://")):
            why = "The target is a whole URL: the sidecar is no forward proxy, call it by path"
        raise Refused("malformed_request", why)
    if "#" in raw_target:
        raise Refused("malformed_request", "The request target has a fragment")
    raw_path, _, query = raw_target.partition("?")
    if query:
        _require_plain_query(query, parameters_max)
    if len(raw_path) > _CACHED_LENGTH_MAX:
        return _read_path(raw_path), query
    return _read_path_cached(raw_path), query


def _require_plain_query(query: str, parameters_max: int) -> None:
    if query.count("&") >= parameters_max:
        raise Refused("too_many_parameters", f"More than {parameters_max} query parameters")
    if "%" not in query:
        return
    if _BAD_ESCAPE.search(query):
        raise Refused("malformed_request", "The query has an invalid percent escape")
    decoded = unquote_to_bytes(query)
    if b"\x00" in decoded:
        raise Refused("malformed_request", "The query holds a NUL")
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("malformed_request", "The query is not UTF-8") from None


def _read_path(raw_path: str) -> Path:
    if not _PATH_CHARACTERS.fullmatch(raw_path):
        raise _ambiguous("the path holds a character that must be escaped")
    raw_segments = raw_path.split("/")[1:]
    if raw_segments[-1] == "" and len(raw_segments) > 1:
        raw_segments.pop()
    if "" in raw_segments and raw_segments != [""]:
        raise _ambiguous("the path has an empty segment")
    decoded = [_read_segment(segment) for segment in raw_segments]
    upstream = decoded[0]
    if "/" in upstream:
        raise _ambiguous("the upstream's name has an encoded slash")
    rest = raw_path[1 + len(raw_segments[0]) :]
    path = "/" + "/".join(decoded[1:])
    if len(path) > 1 and rest.endswith("/"):
        path += "/"
    return Path(
        upstream=upstream,
        segments=tuple(decoded[1:]),
        rest=rest,
        decoded=path,
        has_encoded_slash=any("/" in segment for segment in decoded),
        has_parameters=";" in rest,
    )


_read_path_cached = lru_cache(maxsize=1024)(_read_path)


def _read_segment(raw: str) -> str:
    text = _decode_once(raw) if "%" in raw else raw
    if ";" not in text and "." not in text and "%" not in raw:
        return text
    _require_plain_segment(text)
    if not text.isascii():
        # A server that normalises (NFKC) must not see another path: FULLWIDTH FULL STOP and kin.
        normal = unicodedata.normalize("NFKC", text)
        _require_plain_segment(normal)
        if normal.count("/") != text.count("/"):
            raise _ambiguous("a segment becomes two when normalised")
    return text


def _decode_once(raw: str) -> str:
    if _BAD_ESCAPE.search(raw):
        raise _ambiguous("a segment has an invalid percent escape")
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise _ambiguous("a segment is not UTF-8") from None
    if _CONTROL.search(text):
        raise _ambiguous("a segment holds a control character")
    if _ESCAPE.search(text):
        raise _ambiguous("a segment needs a second decoding")
    return text


def _require_plain_segment(text: str) -> None:
    if "\\" in text:
        raise _ambiguous("a segment holds a backslash")
    for part in text.split("/"):
        name, *parameters = part.split(";")
        if not name:
            raise _ambiguous("a segment is empty")
        if not name.strip(". ") or any(
            parameter and not parameter.strip(". ") for parameter in parameters
        ):
            raise _ambiguous("the path has a dot segment")


def _ambiguous(reason: str) -> Refused:
    return Refused("ambiguous_path", f"The path can be read in more than one way: {reason}")
