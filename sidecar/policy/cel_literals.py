"""The literals an expression holds against what a call has: mistakes in them stay silent.

Knows: that a comparison with a value of another type is false and no error, and so is a search for
a label nobody carries; where such literals stand: beside an argument (`args.x == "a"`,
`args.x in [1, 2]`, `args.?x.orValue("") == "a"`), in `"label" in run.labels`, in
`run.count("tool", …)`.
Must not know: what tools declare, which labels there are, the CEL library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.policy.cel_tree import CALL, CONSTANT, IDENTIFIER, LIST, SELECT, STRUCT, Term

_COMPARED: Final = frozenset({"_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_"})
_INDEXED: Final = frozenset({"_[_]", "_?._", "_[?_]"})
_LABELS: Final = frozenset({"tool.labels", "run.labels"})
_OR_VALUE: Final = "orValue"
_COUNT: Final = "run.count"


@dataclass(slots=True)
class Literals:
    """By argument: the Python types of what it is held against, each with its place. The labels
    that are looked for (by name: in which list, where), the globs of tools that are counted."""

    of_arguments: dict[str, list[tuple[type, int]]] = field(default_factory=dict)
    labels: dict[tuple[str, str], int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)

    def note(self, call: Term, constants: Mapping[str, Any]) -> None:
        """Looks at one call of an operator or function; a name of `constants` is what it holds."""
        parts = call.parts
        if len(parts) != 2:
            return
        one, other = parts
        if call.name in _COMPARED:
            self._held(one, other, call.offset, constants)
            self._held(other, one, call.offset, constants)
        elif call.name == "@in":
            self._searched(one, other, call.offset, constants)
        elif call.name == _COUNT and one.text is not None:
            self.counted.setdefault(one.text, one.offset)

    def _searched(self, one: Term, other: Term, offset: int, constants: Mapping[str, Any]) -> None:
        if one.text is not None and other.kind == IDENTIFIER and other.name in _LABELS:
            self.labels.setdefault((other.name, one.text), one.offset)
        elif other.kind == LIST:
            for member in other.parts:
                self._held(one, member, offset, constants)
        elif other.kind == IDENTIFIER and isinstance(constants.get(other.name), list):
            for value in constants[other.name]:
                self._held(one, Term(CONSTANT, value=value), offset, constants)

    def _held(self, one: Term, other: Term, offset: int, constants: Mapping[str, Any]) -> None:
        found = _type(other, constants)
        if found is None or _stands_for_absence(one, other, constants):
            return
        name = argument_of(one)
        if name is not None and (found, offset) not in self.of_arguments.get(name, ()):
            self.of_arguments.setdefault(name, []).append((found, offset))


def _type(term: Term, constants: Mapping[str, Any]) -> type | None:
    """Of a literal, or of a constant by its name; None of anything else."""
    if term.kind == CONSTANT:
        return type(term.value)
    if term.kind == IDENTIFIER and term.name in constants:
        return type(constants[term.name])
    return {LIST: list, STRUCT: dict}.get(term.kind)


def _stands_for_absence(one: Term, other: Term, constants: Mapping[str, Any]) -> bool:
    """Whether a literal is what `orValue` gives where there is no argument: of any type, then."""
    if one.kind != CALL or one.name != _OR_VALUE or len(one.parts) != 2:
        return False
    default = one.parts[1]
    if default.kind == IDENTIFIER:
        return default.name == other.name
    return (_type(default, constants), default.value) == (_type(other, constants), other.value)


def argument_of(term: Term) -> str | None:
    """The argument a term gives the value of, if it does: `args.x`, `args["x"]`, `args.?x`, with
    or without `orValue`."""
    if term.kind == CALL and term.name == _OR_VALUE and term.parts:
        term = term.parts[0]
    holder: Any = term.parts[0] if term.parts else None
    if holder is None or holder.kind != IDENTIFIER or holder.name != "args":
        return None
    if term.kind == SELECT and not term.value:
        return term.name
    if term.kind == CALL and term.name in _INDEXED and len(term.parts) == 2:
        return term.parts[1].text
    return None
