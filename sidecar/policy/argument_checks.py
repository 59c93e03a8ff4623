"""Whether what rules read of arguments fits what their tools declare: names, and types.

Knows: that declared arguments are complete, so that another name is a mistake; that a comparison
with a value of another type is false and no error, so that it must be found before it judges.
Must not know: how a rule is judged, files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.policy.arguments import ArgumentTypes
from sidecar.policy.cel_checks import Reading
from sidecar.policy.compiling import CompiledRule, Expression
from sidecar.policy.conditions import TELLING_TYPES, Scope
from sidecar.policy.fields import Problems, did_you_mean

_KINDS: Mapping[str, type] = {"string": str, "int": int, "bool": bool}

#: What every tool of a rule says of its arguments; None where one takes anything.
Declarations = Sequence[ArgumentTypes | None]


class _Typed(NamedTuple):
    """An expression whose arguments are of types that are certain."""

    rule: CompiledRule
    expression: Expression
    types: dict[str, str]


class ArgumentChecks:
    """Looks at rules one by one; types are checked at the end, for many rules at once."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._by_scope: dict[Scope, list[_Typed]] = {}

    def look(self, one: CompiledRule, declared: Declarations) -> None:
        """Notes every argument a rule reads that no tool of it can have."""
        known = [types for types in declared if types is not None]
        names = {name for types in known for name in types.names}
        is_complete = len(known) == len(declared)
        for argument, position in one.arguments.items():
            if argument in names:
                continue
            hint = did_you_mean(argument, names)
            if is_complete:
                message = f'no tool of this rule declares the argument "{argument}"'
                self._problems.note(position, message, hint, is_warning=one.is_pack)
            elif hint and not one.is_pack:
                message = f'no tool that declares its arguments has "{argument}"'
                self._problems.warning(position, message, hint)
        if is_complete:
            self._remember(one, [types.plain() for types in known])

    def _remember(self, one: CompiledRule, declared: Sequence[Mapping[str, str]]) -> None:
        for expression in one.expressions:
            reading = expression.condition.reading
            types = _certain(set(reading.arguments) - reading.tested, declared)
            if any(_may_be_wrong(reading, name, text) for name, text in types.items()):
                scope = expression.condition.scope
                self._by_scope.setdefault(scope, []).append(_Typed(one, expression, types))

    def conclude(self) -> None:
        """Notes every value that is used as what it is not."""
        for scope, several in self._by_scope.items():
            shared = _agreed(several)
            environments: dict[tuple[tuple[str, str], ...], Any] = {}
            for typed in several:
                fits = all(
                    shared.get(name) == typed.types.get(name)
                    for name in typed.expression.condition.reading.arguments
                )
                types = shared if fits else typed.types
                key = () if fits else tuple(sorted(types.items()))
                if key not in environments:
                    environments[key] = scope.with_arguments(types)
                self._check(typed, scope, environments[key])

    def _check(self, typed: _Typed, scope: Scope, environment: Any) -> None:
        one, expression = typed.rule, typed.expression
        is_number = expression.what == "sum"
        for finding in scope.check(expression.text, environment, is_number=is_number):
            self._problems.note(
                expression.place(finding.offset),
                f"{expression.what}: {finding.message}",
                finding.hint or _said(typed.types),
                is_warning=one.is_pack,
            )


def _certain(names: Iterable[str], declared: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The types of arguments that are always there, and of one type in every tool that has them."""
    certain: dict[str, str] = {}
    for name in sorted(names):
        texts = {types[name] for types in declared if name in types}
        if len(texts) == 1 and texts <= TELLING_TYPES:
            certain[name] = texts.pop()
    return certain


def _may_be_wrong(reading: Reading, name: str, text: str) -> bool:
    """Whether an argument is used for more than comparisons with constants of its own type."""
    compared = reading.compared.get(name, ())
    is_more = reading.mentions[name] > len(compared)
    return is_more or any(kind is not _KINDS.get(text) for kind in compared)


def _agreed(several: Iterable[_Typed]) -> dict[str, str]:
    """The names that are of one type wherever an expression reads them."""
    agreed: dict[str, str | None] = {}
    for one in several:
        for name in one.expression.condition.reading.arguments:
            found = one.types.get(name)
            if agreed.setdefault(name, found) != found:
                agreed[name] = None
    return {name: text for name, text in agreed.items() if text is not None}


def _said(types: Mapping[str, str]) -> str:
    said = ", ".join(f"{name}: {text}" for name, text in types.items())
    return f"the catalogue says {said}"
