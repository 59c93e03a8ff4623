"""Which terms of an expression have to be true for it to be true, and which have to be false.

Knows: how `&&`, `||`, `!`, `? :` and loops pass truth on, and which texts loop variables stand for.
Must not know: what any other term means, the CEL library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sidecar.policy.cel_tree import CALL, CONSTANT, IDENTIFIER, LIST, LOOP, Term

_EITHER: Final = frozenset({"_&&_", "_||_", "@not_strictly_false"})


class Wanted(NamedTuple):
    """A term that has to be true (or false), with the texts its loop variables stand for."""

    term: Term
    is_true: bool
    texts: Mapping[str, Sequence[str]]


def wanted(tree: Term, constants: Mapping[str, Any]) -> Iterator[Wanted]:
    """Every term that decides, loops before what stands in them; what is compared or called within
    one is not looked into."""
    pending = [Wanted(tree, True, {})]
    while pending:
        one = pending.pop()
        term, is_true, texts = one
        if term.kind == LOOP and len(term.parts) == 5:
            yield one
            known = known_texts(term.parts[0], texts, constants)
            inner = {**texts, term.name: known} if known else texts
            pending += [Wanted(part, is_true, inner) for part in term.parts[3:]]
        elif term.kind == CALL and term.name in _EITHER:
            pending += [Wanted(part, is_true, texts) for part in term.parts]
        elif term.kind == CALL and term.name == "!_":
            pending += [Wanted(part, not is_true, texts) for part in term.parts]
        elif term.kind == CALL and term.name == "_?_:_":
            pending += [Wanted(part, is_true, texts) for part in term.parts[1:]]
        else:
            yield one


def wanted_names(tree: Term) -> set[str]:
    """The names that have to be true."""
    return {
        one.term.name for one in wanted(tree, {}) if one.is_true and one.term.kind == IDENTIFIER
    }


def known_texts(
    term: Term, loops: Mapping[str, Sequence[str]], constants: Mapping[str, Any]
) -> Sequence[str]:
    """The texts a term stands for, if they are known when the rule is loaded."""
    if term.kind == LIST:
        return [text for part in term.parts for text in known_texts(part, loops, constants)]
    if term.kind == IDENTIFIER and term.name in loops:
        return loops[term.name]
    if term.kind not in (IDENTIFIER, CONSTANT):
        return ()
    value = constants.get(term.name) if term.kind == IDENTIFIER else term.value
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
