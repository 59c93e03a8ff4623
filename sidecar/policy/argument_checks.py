"""Whether what rules read of arguments fits what their tools declare: names, and types.

Knows: that declared arguments are complete, so that another name is a mistake; that a comparison
with a value of another type is false and no error, so that it must be found before it judges; that
a variable is read on the tools of all rules that read it.
Must not know: how a rule is judged, files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.model import Effect, Tool
from sidecar.policy.argument_absence import unthought
from sidecar.policy.argument_slips import ArgumentSlips
from sidecar.policy.arguments import TELLING_TYPES, ArgumentTypes
from sidecar.policy.cel_checks import Reading
from sidecar.policy.compiling import CompiledRule, Expression
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.text_places import Place
from sidecar.policy.untyped_values import Untyped
from sidecar.problems import Position

if TYPE_CHECKING:
    from sidecar.policy.conditions import Scope, Variable

_KINDS: Mapping[str, type] = {"string": str, "int": int, "bool": bool}
_SAID: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_FLAT: Final = frozenset({"string", "int", "number", "bool"})
_NULL: Final = type(None)

#: What every tool of a rule says of its arguments; None where one takes anything.
Declarations = Sequence[ArgumentTypes | None]


class _Read(NamedTuple):
    """An expression that reads arguments: a `when`, a `sum` (`is_number`) or a variable (None)."""

    what: str
    text: str
    reading: Reading
    scope: Scope
    place: Callable[[int], Position]
    is_number: bool | None
    is_pack: bool


class _Typed(NamedTuple):
    """An expression whose arguments are of types that are certain."""

    read: _Read
    types: dict[str, str]


@dataclass(slots=True)
class _Shared:
    """A variable with what all tools declare on which some rule reads it; `asked` are the
    arguments that every rule asks for which reads it."""

    read: _Read
    asked: set[str]
    known: dict[int, Mapping[str, str]] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Whether each of these tools declares its arguments."""
        return not self.free


class ArgumentChecks:
    """Looks at rules one by one; types are checked at the end, for many rules at once."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._slips = ArgumentSlips(problems)
        self._by_scope: dict[Scope, list[_Typed]] = {}
        self._shared: dict[tuple[Scope, str], _Shared] = {}
        self._literals: list[tuple[Position, str, str, bool]] = []
        self._untyped: list[tuple[Sequence[str], Position, str, Untyped]] = []

    def look(self, one: CompiledRule, declared: Declarations, tools: Sequence[Tool]) -> None:
        """Notes every argument a rule reads that no tool of it can have; `declared` is what each
        of `tools` declares."""
        known = [types for types in declared if types is not None]
        names = {name for types in known for name in types.names}
        several = zip(tools, declared, strict=True)
        free = [tool.name for tool, types in several if types is None]
        is_complete = not free
        self._look_at_names(one.arguments, names, is_complete=is_complete, is_pack=one.is_pack)
        for expression in one.expressions:
            for variable in expression.condition.variables:
                self._share(one, expression, variable, known, free)
        if free and not one.is_pack:
            unlike = _unlike(one.arguments, names)
            self._slips.note(unlike, free)
            self._note_untyped(one, free, names | unlike.keys())
        if is_complete:
            plain = [types.plain() for types in known]
            self._look_at_paths(one, plain)
            for expression in one.expressions:
                self._remember(_read(one, expression), plain)

    def _note_untyped(self, one: CompiledRule, free: Sequence[str], meant: set[str]) -> None:
        """Remembers comparisons that a text gets round: of an allow rule those that must not hold,
        of others those that have to."""
        is_allow = one.rule.effect is Effect.ALLOW
        for expression in one.expressions:
            condition = expression.condition
            read = [(expression.what, condition.reading, expression.place)]
            for variable in condition.asserted():
                place = one.variables[variable.name].place
                read.append((variable.name, variable.reading, place))
            for what, reading, place in read:
                for found in reading.untyped:
                    is_missed = found.is_equal is not is_allow
                    if is_missed and (found.argument in meant or what != expression.what):
                        self._untyped.append((free, place(found.offset), what, found))

    def _look_at_names(
        self,
        arguments: Mapping[str, Place],
        names: set[str],
        *,
        is_complete: bool,
        is_pack: bool,
        of: str = "this rule",
    ) -> None:
        for argument, place in arguments.items():
            if argument in names:
                continue
            hint = did_you_mean(argument, names) if names else ""
            if is_complete:
                message = f'no tool of {of} declares the argument "{argument}"'
                self._problems.note(place(), message, hint, is_warning=is_pack)
            elif hint and not is_pack:
                message = f'no tool that declares its arguments has "{argument}"'
                self._problems.warning(place(), message, hint)

    def _look_at_paths(self, one: CompiledRule, declared: Sequence[Mapping[str, str]]) -> None:
        """Notes what is to be masked below an argument that has nothing below it."""
        wanted = one.rule.obligations
        for path in wanted.request.paths if wanted is not None else ():
            texts = sorted({types[path[1]] for types in declared if path[1] in types})
            if path[0] != "args" or len(path) < 3 or not texts:
                continue
            if all(text.strip("[]?") in _FLAT for text in texts):
                self._problems.note(
                    one.draft.places["obligations"],
                    f"there is nothing below args.{path[1]} to be masked",
                    f"the catalogue says {path[1]}: {' or '.join(texts)}",
                    is_warning=one.is_pack,
                )

    def _share(
        self,
        one: CompiledRule,
        expression: Expression,
        variable: Variable,
        known: Sequence[ArgumentTypes],
        free: Sequence[str],
    ) -> None:
        """Remembers on which tools a variable is read that reads arguments."""
        if not variable.reading.arguments:
            return
        key = (expression.condition.scope, variable.name)
        shared = self._shared.get(key)
        if shared is None:
            text, place = one.variables[variable.name]
            scope = expression.condition.scope
            read = _Read(variable.name, text, variable.reading, scope, place, None, one.is_pack)
            shared = self._shared[key] = _Shared(read, set(variable.reading.arguments))
        shared.asked &= expression.condition.reading.sought
        shared.free.update(free)
        for types in known:
            if id(types) not in shared.known:
                shared.known[id(types)] = types.plain()

    def _remember(
        self, read: _Read, declared: Sequence[Mapping[str, str]], asked: Collection[str] = ()
    ) -> None:
        reading = read.reading
        for name, offset, message, said in _mismatches(reading, declared):
            place = read.place(offset)
            self._literals.append(
                (place, f"{read.what}: {message}", f"{name}: {said}", read.is_pack)
            )
        for offset, message, hint in () if read.is_pack else unthought(reading, declared, asked):
            self._problems.warning(read.place(offset), f"{read.what}: {message}", hint)
        types = _certain(reading, declared)
        if any(_may_be_wrong(reading, name, text) for name, text in types.items()):
            self._by_scope.setdefault(read.scope, []).append(_Typed(read, types))

    def conclude(self, in_routes: Mapping[str, Iterable[str]]) -> None:
        """Notes what is wrong with variables, every value that is used as what it is not, and what
        looks misspelt. `in_routes` are the arguments in the route of each tool that declares none.
        """
        for shared in self._shared.values():
            read, known = shared.read, list(shared.known.values())
            read_at = read.reading.arguments.items()
            places = {name: partial(read.place, offset) for name, offset in read_at}
            names = {name for types in known for name in types}
            self._look_at_names(
                places, names, is_complete=shared.is_complete, is_pack=read.is_pack,
                of=f"the rules that read {read.what}",
            )  # fmt: skip
            if shared.is_complete:
                self._remember(read, known, shared.asked)
            elif not read.is_pack:
                self._slips.note(_unlike(places, names), shared.free)
        self._slips.conclude(in_routes)
        for free, position, what, found in self._untyped:
            routes = [in_routes[tool] for tool in free if tool in in_routes]  # MCP has types
            is_fixed = found.is_text and all(found.argument in names for names in routes)
            if routes and not is_fixed:
                self._problems.warning(position, f"{what}: {found.message}", found.hint)
        for scope, several in self._by_scope.items():
            shared_types = _agreed(several)
            environments: dict[tuple[tuple[str, str], ...], Any] = {}
            for typed in several:
                fits = all(
                    shared_types.get(name) == typed.types.get(name)
                    for name in typed.read.reading.arguments
                )
                types = shared_types if fits else typed.types
                key = () if fits else tuple(sorted(types.items()))
                if key not in environments:
                    environments[key] = scope.with_arguments(types)
                self._check(typed, scope, environments[key])
        said = {one.position for one in self._problems.found if not one.is_warning}
        for place, message, hint, is_pack in self._literals:
            if place not in said:
                self._problems.note(
                    place, message, f"the catalogue says {hint}", is_warning=is_pack
                )

    def _check(self, typed: _Typed, scope: Scope, environment: Any) -> None:
        read = typed.read
        for finding in scope.check(read.text, environment, is_number=read.is_number):
            self._problems.note(
                read.place(finding.offset),
                f"{read.what}: {finding.message}",
                finding.hint or _said(typed.types),
                is_warning=read.is_pack,
            )


def _read(one: CompiledRule, expression: Expression) -> _Read:
    condition = expression.condition
    return _Read(
        expression.what,
        expression.text,
        condition.reading,
        condition.scope,
        expression.place,
        expression.what == "sum",
        one.is_pack,
    )


def _unlike(arguments: Mapping[str, Place], names: set[str]) -> dict[str, Place]:
    """Those that are neither declared nor like a declared one, of which a word was said."""
    if not names:
        return dict(arguments)
    left = ((name, place) for name, place in arguments.items() if name not in names)
    return {name: place for name, place in left if not did_you_mean(name, names)}


def _mismatches(
    reading: Reading, declared: Sequence[Mapping[str, str]]
) -> Iterator[tuple[str, int, str, str]]:
    """Literals that an argument is held against and that it can be on no tool: the argument, the
    place, what is wrong, what the tools say of it."""
    for name, literals in reading.literals.of_arguments.items():
        texts = sorted({types[name] for types in declared if name in types})
        for kind, offset in literals if texts else ():
            if not any(_takes(text, kind) for text in texts):
                what = _SAID.get(kind, "null" if kind is _NULL else "a number")
                yield name, offset, f"args.{name} is never {what}", " or ".join(texts)


def _takes(text: str, kind: type) -> bool:
    """Whether a value of this type can be an argument that is declared so."""
    core = text.removesuffix("?")
    if core == "any":
        return True
    if kind is _NULL:
        return text.endswith("?")
    if core.startswith("["):
        return kind is list
    if core in ("int", "number"):
        return issubclass(kind, int | float) and kind is not bool
    return {"string": str, "bool": bool, "object": dict}[core] is kind


def _certain(reading: Reading, declared: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The types of arguments that are one type in every tool that has them. One that may be absent
    is of it too, unless the expression asks whether it is there, or null: the check cannot tell
    these."""
    certain: dict[str, str] = {}
    for name in sorted(set(reading.arguments) - reading.tested):
        texts = {types[name].removesuffix("?") for types in declared if name in types}
        if len(texts) != 1 or not texts <= TELLING_TYPES:
            continue
        held = reading.literals.of_arguments.get(name, ())
        if not any(kind is _NULL for kind, _ in held):
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
        for name in one.read.reading.arguments:
            found = one.types.get(name)
            if agreed.setdefault(name, found) != found:
                agreed[name] = None
    return {name: text for name, text in agreed.items() if text is not None}


def _said(types: Mapping[str, str]) -> str:
    said = ", ".join(f"{name}: {text}" for name, text in types.items())
    return f"the catalogue says {said}"
