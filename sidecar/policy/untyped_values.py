"""Values that a rule holds against arguments which no catalogue declares.

Knows: that paths, queries and forms give texts, so that `args.force == true` is false of
`force=true` and `args.force != true` is true of it; that JSON gives lists of texts too; which of
both a rule must not get wrong.
Must not know: which tools there are, what they declare, the CEL library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sidecar.policy.cel_literals import argument_of
from sidecar.policy.cel_tree import CONSTANT, IDENTIFIER, LIST, Term
from sidecar.policy.cel_truth import wanted

#: An expression without them needs no look.
EQUALITIES: Final = frozenset({"_==_", "_!=_", "@in"})


class Untyped(NamedTuple):
    """A comparison that the same value gets round as another type, at a character offset: one that
    has to hold (`is_equal`), or one that must not."""

    offset: int
    argument: str
    shown: str
    type_name: str
    is_equal: bool

    @property
    def message(self) -> str:
        """What is wrong."""
        sign, truth = ("==", "false") if self.is_equal else ("!=", "true")
        gives = f'the text "{self.shown}", which is what a path, a query or a form gives'
        if self.is_text:
            gives = f"a list of it, [{self.shown}], which a body of JSON can give"
        return f"args.{self.argument} {sign} {self.shown} is {truth} of {gives}"

    @property
    def is_text(self) -> bool:
        """Whether it is held against a text, which what stands in a route always is."""
        return self.type_name == "string"

    @property
    def hint(self) -> str:
        """The way out."""
        return f"let the catalogue declare the tool's args: {self.argument}: {self.type_name}"


def untyped(tree: Term, constants: Mapping[str, Any]) -> list[Untyped]:
    """Every such comparison on which the truth of the expression rests."""
    found: list[Untyped] = []
    for term, is_true, _ in wanted(tree, constants):
        if term.name not in EQUALITIES or len(term.parts) != 2:
            continue
        one, other = term.parts
        is_equal = (term.name != "_!=_") == is_true
        pairs = [(one, other)] if term.name == "@in" else [(one, other), (other, one)]
        for argument, value in pairs:
            if term.name == "_==_" and argument.name == "orValue":
                continue  # of which a word is said wherever it stands
            name, shown = argument_of(argument), _shown(value, constants)
            if name is not None and shown is not None:
                found.append(Untyped(term.offset, name, *shown, is_equal))
                break
    return found


def _shown(term: Term, constants: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first plain value that a term is or holds, as it is written, and its type's name."""
    if term.kind == LIST:
        return next((shown for part in term.parts if (shown := _shown(part, constants))), None)
    if term.kind not in (CONSTANT, IDENTIFIER):
        return None
    given = term.value if term.kind == CONSTANT else constants.get(term.name)
    for value in given if isinstance(given, list) else [given]:
        if isinstance(value, bool):
            return str(value).lower(), "bool"
        if isinstance(value, float):
            return f"{value:g}", "number"
        if isinstance(value, int):
            return str(value), "int"
        if isinstance(value, str) and value:
            return json.dumps(value, ensure_ascii=False), "string"
    return None
