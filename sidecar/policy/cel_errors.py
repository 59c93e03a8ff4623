"""What the CEL library says of a failed evaluation, without what it repeats of the call.

Knows: the messages in which it repeats a value (a key that is not there, an index); that a key may
be told where the condition itself writes it, as in `args.amount`. What an error says is recorded,
and a value may be a secret. Our own functions never repeat what they are given.
Must not know: the CEL library's classes, which condition is meant.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Final

from sidecar.policy.cel_tree import SELECT, Term

_STATUS: Final = re.compile(r"^[A-Z_]+: ")
_LENGTH_MAX: Final = 300
_NO_KEY: Final = "Key not found in map"
_INDEX: Final = re.compile(r"index=\S+")


def first_line(text: str) -> str:
    """The first line of what the library says, without its status."""
    line = _STATUS.sub("", text.partition("\n")[0])
    return line.removesuffix(" [INVALID_ARGUMENT]")[:_LENGTH_MAX]


def written_names(trees: Iterable[Term]) -> frozenset[str]:
    """All that stands in these trees as the name of a key, or as a text."""
    return frozenset(name for tree in trees for name in _written(tree))


def without_values(text: str, written: Container[str]) -> str:
    """What the library says of an evaluation, in one line; `written` are the names that stand in
    what was evaluated."""
    line = first_line(text)
    if line.startswith(_NO_KEY):
        key = line.removeprefix(_NO_KEY).strip(" :").strip('"')
        return f'{_NO_KEY} : "{key}"' if key in written else _NO_KEY
    return _INDEX.sub("out of range", line)


def _written(tree: Term) -> Iterator[str]:
    for term in tree.walk():
        if term.kind == SELECT:
            yield term.name
        elif term.text is not None:
            yield term.text
