"""Lists that an allow rule looks through, and that may hold nothing.

Knows: that `all()` is true of an empty list (cel-spec, "Macros"), so that a call which names
nothing where a rule looks is allowed by it.
Must not know: the CEL library, files, rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.policy.cel_tree import CALL, IDENTIFIER, LOOP, Term
from sidecar.policy.cel_truth import wanted

_MESSAGE: Final = "all() is true of an empty list too: a call that names nothing here is allowed"
_HINT: Final = "where something has to be named: size(LIST) > 0 && LIST.all(…)"


def unfilled(tree: Term) -> Iterator[tuple[int, str, str]]:
    """Every `all()` over what a call gives that has to be true, in an expression that asks for no
    size: place, message, hint."""
    if any(term.kind == CALL and term.name == "size" for term in tree.walk()):
        return
    for term, is_true, _ in wanted(tree, {}):
        is_all = term.kind == LOOP and len(term.parts) == 5 and term.parts[1].value is True
        if is_true and is_all and _is_of_the_call(term.parts[0]):
            yield term.offset, _MESSAGE, _HINT


def _is_of_the_call(listed: Term) -> bool:
    names = [term.name for term in listed.walk() if term.kind == IDENTIFIER]
    return any(name == "args" or name.startswith("variables.") for name in names)
