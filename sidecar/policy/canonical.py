"""One way to write plain data down as JSON, and the hash of it.

Knows: sorted keys, no blanks, characters as they are. What is large is written piece by piece: one
call of the encoder for all of it would hold up every other thread until it is done.
Must not know: what the data means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

#: So many levels are written one by one; what is below is small (a rule, an entry of a catalogue).
_LEVELS: Final = 5

_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_hash(content: Any) -> str:
    """The first 128 bits of SHA-256 over sorted compact JSON, in hex."""
    return _hash([_ENCODER.encode(content)])


def canonical_hash_of_much(content: Any) -> str:
    """The same hash, in steps."""
    return _hash(_pieces(content, _LEVELS))


def _hash(pieces: Iterable[str]) -> str:
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece.encode("utf-8", "surrogatepass"))
    return total.hexdigest()[:32]


def _pieces(content: Any, levels: int) -> Iterator[str]:
    if levels and content and type(content) is dict:
        mark = "{"
        for key in sorted(content):
            yield f"{mark}{_ENCODER.encode(key)}:"
            yield from _pieces(content[key], levels - 1)
            mark = ","
        yield "}"
    elif levels and content and type(content) is list:
        mark = "["
        for member in content:
            yield mark
            yield from _pieces(member, levels - 1)
            mark = ","
        yield "]"
    else:
        yield _ENCODER.encode(content)
