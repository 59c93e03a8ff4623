"""The plain part of conditions, answered without CEL: what was said, compared with constants.

Knows: terms that have one certain answer under CEL's rules when both sides are of one type:
arguments and facts compared with constants, membership in lists of texts, prefixes, sizes, and,
or, not. Everything else (a missing argument, two types, another function) is no answer here, and
the whole condition is put to CEL, which also has the last word on every error. So this file can
only be faster, never of another opinion; a property test holds it to that.
Why it is worth having: an evaluation by the library costs 7 µs alone and more than twice that
between other work, most of it the way into it and back.
Must not know: the CEL library, which rule asks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from sidecar.policy.cel_tree import CALL, CONSTANT, IDENTIFIER, LIST, SELECT, Term
from sidecar.policy.facts import FACTS, Facts, Kind

#: True or false where that is certain, None where CEL must be asked.
Answer = Callable[[Facts], bool | None]
_Value = Callable[[Facts], Any]

#: Stands for a value that is not there, or that cannot be looked into.
_ODD = object()

_ORDERINGS: Mapping[str, Callable[[Any, Any], bool]] = {
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
}
_EQUALITIES: Mapping[str, Callable[[Any, Any], bool]] = {"_==_": operator.eq, "_!=_": operator.ne}
_ORDERED = frozenset({int, float})
_EQUATED = frozenset({int, float, str, bool})
_TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}
_SIZED = frozenset({str, list, dict})
_READABLE = frozenset({Kind.TEXT, Kind.RANK, Kind.BOOLEAN})


def plain_answer(tree: Term, constants: Mapping[str, Any]) -> Answer | None:
    """The plain reading of a condition; None if there is nothing plain about it.

    `constants` are the policy's own, by full name (`constants.NAME`).
    """
    return _Reader(constants).answer(tree)


class _Reader:
    """Turns terms into functions."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = constants

    def answer(self, term: Term) -> Answer | None:
        """A term that gives true or false; None if it is not plain."""
        if term.kind == CALL:
            return self._call(term)
        if term.kind == SELECT and term.value:
            return self._presence(term)
        value = self._value(term)
        return _as_boolean(value) if value is not None else None

    def _call(self, term: Term) -> Answer | None:
        name, parts = term.name, term.parts
        if name in ("_&&_", "_||_") and len(parts) == 2:
            return self._junction(parts[0], parts[1], decides=name == "_||_")
        if name == "!_":
            inner = self.answer(parts[0])
            return _negation(inner) if inner is not None else None
        if len(parts) != 2:
            return None
        if name == "@in":
            return self._membership(parts[0], parts[1])
        direct = _direct(name, parts[0], parts[1])
        if direct is not None:
            return direct
        left, right = self._value(parts[0]), self._value(parts[1])
        if left is None or right is None:
            return None
        if name in _ORDERINGS:
            return _comparison(_ORDERINGS[name], _ORDERED, left, right)
        if name in _EQUALITIES:
            return _comparison(_EQUALITIES[name], _EQUATED, left, right)
        if name in _TEXT_TESTS and term.value:
            return _comparison(_TEXT_TESTS[name], frozenset({str}), left, right)
        return None

    def _junction(self, left: Term, right: Term, *, decides: bool) -> Answer | None:
        """`a && b` (decided by a false) or `a || b` (decided by a true), whatever the other is."""
        first, second = self.answer(left), self.answer(right)
        if first is None and second is None:
            return None
        return _junction(first or _unknown, second or _unknown, decides)

    def _presence(self, term: Term) -> Answer | None:
        holder = self._value(term.parts[0])
        name = term.name

        def is_there(facts: Facts) -> bool | None:
            found = holder(facts) if holder is not None else _ODD
            return name in found if type(found) is dict else None

        return is_there if holder is not None else None

    def _membership(self, item: Term, holder: Term) -> Answer | None:
        value, texts = self._value(item), self._texts(holder)
        if value is None or texts is None:
            return None

        def is_member(facts: Facts) -> bool | None:
            found = value(facts)
            return found in texts if type(found) is str else None

        return is_member

    def _texts(self, term: Term) -> frozenset[str] | None:
        """A list of nothing but texts, written out or a constant of the policy."""
        if term.kind == LIST:
            items: Any = [part.text for part in term.parts]
        else:
            items = self._constants.get(term.name) if term.kind == IDENTIFIER else None
        if type(items) is not list or not all(type(item) is str for item in items):
            return None
        return frozenset(items)

    def _value(self, term: Term) -> _Value | None:
        if term.kind == CONSTANT:
            return _constant(term.value) if type(term.value) in _EQUATED else None
        if term.kind == SELECT and not term.value:
            return self._selection(term)
        if term.kind == IDENTIFIER:
            return self._name(term.name)
        if term.kind == CALL and term.name == "size" and len(term.parts) == 1:
            inner = self._value(term.parts[0])
            return _size(inner) if inner is not None else None
        return None

    def _name(self, name: str) -> _Value | None:
        if name == "args":
            return lambda facts: facts.call.args
        if name in self._constants:
            value = self._constants[name]
            return _constant(value) if type(value) in _EQUATED else None
        fact = FACTS.get(name)
        if fact is None or fact.kind not in _READABLE:
            return None
        return _checked(fact.read)

    def _selection(self, term: Term) -> _Value | None:
        """`args.a.b`: one function for the whole way down."""
        names: list[str] = []
        while term.kind == SELECT and not term.value:
            names.append(term.name)
            term = term.parts[0]
        if term.kind != IDENTIFIER or term.name != "args":
            return None
        return _member(names[0]) if len(names) == 1 else _way_down(tuple(reversed(names)))


def _direct(name: str, left: Term, right: Term) -> Answer | None:
    """`args.NAME` compared with a written constant, the commonest of all, as one function."""
    compare = _ORDERINGS.get(name) or _EQUALITIES.get(name)
    constant: Any = right.value
    kind = type(constant)
    if compare is None or right.kind != CONSTANT:
        return None
    if kind not in (_ORDERED if name in _ORDERINGS else _EQUATED):
        return None
    if left.kind != SELECT or left.value or left.parts[0].kind != IDENTIFIER:
        return None
    if left.parts[0].name != "args":
        return None
    member, is_text = left.name, kind is str

    def answer(facts: Facts) -> bool | None:
        args = facts.call.args
        found: Any = args.get(member) if type(args) is dict else None
        if type(found) is not kind or (is_text and "\0" in found):
            return None
        return compare(found, constant)

    return answer


def _unknown(_: Facts) -> None:
    return None


def _constant(value: Any) -> _Value:
    return lambda facts: value


def _checked(read: _Value) -> _Value:
    """CEL would cut a text at NUL."""

    def value(facts: Facts) -> Any:
        found = read(facts)
        return _ODD if type(found) is str and "\0" in found else found

    return value


def _member(name: str) -> _Value:
    def value(facts: Facts) -> Any:
        args = facts.call.args
        found = args.get(name, _ODD) if type(args) is dict else _ODD
        return _ODD if type(found) is str and "\0" in found else found

    return value


def _way_down(names: tuple[str, ...]) -> _Value:
    def value(facts: Facts) -> Any:
        found: Any = facts.call.args
        for name in names:
            if type(found) is not dict:
                return _ODD
            found = found.get(name, _ODD)
        return _ODD if type(found) is str and "\0" in found else found

    return value


def _size(inner: _Value) -> _Value:
    def value(facts: Facts) -> Any:
        found = inner(facts)
        return len(found) if type(found) in _SIZED else _ODD

    return value


def _as_boolean(value: _Value) -> Answer:
    def answer(facts: Facts) -> bool | None:
        found = value(facts)
        return found if type(found) is bool else None

    return answer


def _comparison(
    compare: Callable[[Any, Any], bool], kinds: frozenset[type], left: _Value, right: _Value
) -> Answer:
    def answer(facts: Facts) -> bool | None:
        one, other = left(facts), right(facts)
        kind = type(one)
        return compare(one, other) if kind is type(other) and kind in kinds else None

    return answer


def _negation(inner: Answer) -> Answer:
    def answer(facts: Facts) -> bool | None:
        found = inner(facts)
        return None if found is None else not found

    return answer


def _junction(first: Answer, second: Answer, decides: bool) -> Answer:
    def answer(facts: Facts) -> bool | None:
        one = first(facts)
        if one is decides:
            return decides
        other = second(facts)
        if other is decides:
            return decides
        return None if one is None or other is None else not decides

    return answer
