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

#: What holds no more than this is written in one go, below the first levels.
_FEW: Final = 32
_LEVELS: Final = 3

_HOLDERS: Final = (dict, list)
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


def _is_much(content: Any, levels: int) -> bool:
    return type(content) in _HOLDERS and len(content) > (0 if levels > 0 else _FEW)


def _pieces(content: Any, levels: int) -> Iterator[str]:
    kind = type(content) if _is_much(content, levels) else None
    if kind is dict:
        mark = "{"
        for key in sorted(content):
            yield f"{mark}{_ENCODER.encode(key)}:"
            yield from _pieces(content[key], levels - 1)
            mark = ","
        yield "}"
    elif kind is list:
        mark = "["
        for member in content:
            yield mark
            yield from _pieces(member, levels - 1)
            mark = ","
        yield "]"
    else:
        yield _ENCODER.encode(content)
