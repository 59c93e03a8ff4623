"""A list of tools of which some cannot be read: these are cut out of it, and nothing else.

Knows: where the items of a `tools/list` result stand in the text of a message, told by a reader
who takes whatever any client might take; that an item which is no strict JSON by itself is shown to
nobody, and which tools it might be of. What is left are the server's own bytes, to be read strictly
as a whole.
Must not know: what a tool must have, pins, who asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sidecar.errors import Refused
from sidecar.proxy.strict_json import parse

#: Tools in one message: four times as many as are kept of a server. Each is looked at by itself.
ITEMS_MAX: Final = 8192
_BLANKS: Final = re.compile(r"[ \t\r\n]*")


class Cut(NamedTuple):
    """What is left of a message; of what was cut out the names it might have, with the cause."""

    data: bytes
    gone: dict[str, str]


class _Members(list[tuple[str, Any]]):
    """The members of an object, each as often as it stands there."""


class _NotFound(Exception):
    """The text is not that of one message with one list in it."""


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Members, strict=False)


def without_unreadable(data: bytes, depth_max: int) -> Cut | None:
    """The message without those items of its list that are no strict JSON; None where there are
    none, or where one of them has no name: then nobody could say what is missing."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        at = _member(text, _member(text, _after(text, 0), "result"), "tools")
        spans, end = _items(text, at)
    except (ValueError, RecursionError, _NotFound):
        return None
    kept: list[bytes] = []
    gone: dict[str, str] = {}
    for start, stop in spans:
        item = text[start:stop]
        raw = item.encode("utf-8", "surrogateescape")
        try:
            parse(raw, depth_max, has_long_integers=True)
        except Refused as refused:
            names = set(_names(item))
            if not names:
                return None
            fault = refused.detail.partition(": line ")[0] or refused.reason
            gone |= dict.fromkeys(names, f"it is no strict JSON: {fault}")
        else:
            kept.append(raw)
    if not gone:
        return None
    before, behind = (one.encode("utf-8", "surrogateescape") for one in (text[:at], text[end:]))
    return Cut(b"%b[%b]%b" % (before, b",".join(kept), behind), gone)


def _after(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return at if match is None else match.end()


def _member(text: str, at: int, name: str) -> int:
    """Where the value of the one member of this name begins, in the object that begins at `at`."""
    found = [value for spelt, value in _values(text, at) if spelt == name]
    if len(found) != 1:
        raise _NotFound
    return found[0]


def _values(text: str, at: int) -> Iterator[tuple[Any, int]]:
    """Each member's name, and where its value begins."""
    at = _opened(text, at, "{")
    while text[at : at + 1] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _opened(text, _after(text, at), ":")
        yield name, at
        at = _next(text, at, "}")


def _items(text: str, at: int) -> tuple[list[tuple[int, int]], int]:
    """Where each item of the list at `at` begins and ends, and where the list does."""
    spans: list[tuple[int, int]] = []
    at = _opened(text, at, "[")
    while text[at : at + 1] != "]":
        if len(spans) == ITEMS_MAX:
            raise _NotFound
        spans.append((at, _DECODER.raw_decode(text, at)[1]))
        at = _next(text, at, "]")
    return spans, at + 1


def _opened(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise _NotFound
    return _after(text, at + 1)


def _next(text: str, at: int, closing: str) -> int:
    """Behind the value at `at`: where the next one begins, or its holder ends."""
    at = _after(text, _DECODER.raw_decode(text, at)[1])
    if text[at : at + 1] == closing:
        return at
    at = _opened(text, at, ",")
    if text[at : at + 1] == closing:
        raise _NotFound
    return at


def _names(item: str) -> Iterator[str]:
    """All that some reader might take for the name of the tool."""
    found = _DECODER.decode(item)
    if isinstance(found, _Members):
        for spelt, value in found:
            if spelt.casefold() == "name" and type(value) is str:
                yield value
