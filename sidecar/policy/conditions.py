"""Conditions in CEL, compiled with a type check.

Knows: the types of our names and functions, and what the CEL library (cel-expr-python) says of an
expression that does not compile. How compiled ones are evaluated, its neighbour knows.
Must not know: YAML, files, which rule wins.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cel_expr_python import cel

from sidecar.policy import cel_functions
from sidecar.policy.cel_checks import COUNT, BadExpression, Finding, Reading, inspect
from sidecar.policy.cel_costs import COST_MAX_NS, SMALL, USUAL, Estimate, Step
from sidecar.policy.cel_errors import first_line
from sidecar.policy.cel_extents import Needles, Uncountable, uniform
from sidecar.policy.cel_function_costs import are_cheap
from sidecar.policy.cel_hints import hint_for, hint_for_missing, telling
from sidecar.policy.cel_metering import TEXT, TICK
from sidecar.policy.cel_references import kept_by_nobody
from sidecar.policy.cel_tree import Term, decode
from sidecar.policy.evaluation import COUNT_TAKES, TEXT_TAKES, TICK_TAKES
from sidecar.policy.facts import FACTS, Kind
from sidecar.policy.plain import Answer, plain_answer

EXPRESSION_LENGTH_MAX = 10_000
#: What macros make of an expression: an `optMap` doubles what stands before it.
COMPILED_BYTES_MAX = 250_000

_TYPE = cel.Type
_TYPES = {
    Kind.TEXT: _TYPE.STRING,
    Kind.RANK: _TYPE.INT,
    Kind.BOOLEAN: _TYPE.BOOL,
    Kind.TEXTS: _TYPE.List(_TYPE.STRING),
    Kind.HEADERS: _TYPE.Map(_TYPE.STRING, _TYPE.STRING),
    Kind.ANYTHING: _TYPE.Map(_TYPE.STRING, _TYPE.DYN),
    Kind.TIME: _TYPE.TIMESTAMP,
}
_SCALAR_TYPES = {str: _TYPE.STRING, bool: _TYPE.BOOL, int: _TYPE.INT, float: _TYPE.DOUBLE}
_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_TOO_DEEP = re.compile(r"recursion (depth|limit)|expression node count")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_TOO_SLOW = f"this could take more than {COST_MAX_NS / 1e6:g} ms even on a small call"
_TOO_SLOW_HINT = "loops in loops, lists that grow in a loop and large patterns take long"


def _overload(
    name: str, gives: cel.Type, takes: list[cel.Type], run: Any, *, is_member: bool = False
) -> cel.FunctionDecl:
    metered = kept_by_nobody(cel_functions.on_the_meter(name, run), len(takes))
    overload = cel.Overload(f"aegis_{name}", gives, takes, is_member, metered)
    return cel.FunctionDecl(name, [overload])


_TEXT, _BOOL = _TYPE.STRING, _TYPE.BOOL
_FUNCTIONS = [
    _overload("host", _TEXT, [_TEXT], cel_functions.host),
    _overload("inDomain", _BOOL, [_TEXT, _TEXT], cel_functions.in_domain),
    _overload("under", _BOOL, [_TEXT, _TEXT], cel_functions.under),
    _overload("glob", _BOOL, [_TEXT, _TEXT], cel_functions.glob),
    _overload("cidr", _TEXT, [_TEXT], cel_functions.cidr),
    _overload("containsIP", _BOOL, [_TEXT, _TEXT], cel_functions.contains_ip, is_member=True),
]


def _extensions() -> list[cel.CelExtension]:
    from cel_expr_python.ext import ext_optional, ext_strings  # 5 MB of memory

    return [ext_optional.ExtOptional(), ext_strings.ExtStrings()]


def _declared() -> cel.CelExtension:
    """`run.count` needs the run and a meter its evaluation, so each call supplies its own; here
    they are only declared."""
    count = cel.Overload(f"aegis_{COUNT}", _TYPE.INT, COUNT_TAKES, False)
    tick = cel.Overload(TICK, _TYPE.BOOL, TICK_TAKES, False)
    told = cel.Overload(TEXT, _TYPE.STRING, TEXT_TAKES, False)
    named = ((COUNT, count), (TICK, tick), (TEXT, told))
    return cel.CelExtension("aegis_calls", [cel.FunctionDecl(name, [one]) for name, one in named])


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """A named expression of a policy; `needs` are the variables it reads itself."""

    name: str
    expression: Any
    reading: Reading
    needs: tuple[Variable, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A compiled `when`, or `sum` of a limit. `variables` stand in the order in which they can
    be evaluated; `run` are the names of the run that it reads, itself or in them; `plain` answers
    what needs no CEL. `inputs` are what it reads of a call, itself or in variables, that may be of
    any size, `needles` the texts it splits at; on `usual` it needs no meter (None: it always
    does). `is_everyday` tells that nothing need be asked if the call's arguments are small."""

    scope: Scope
    expression: Any
    facts: frozenset[str]
    run: frozenset[str]
    constants: frozenset[str]
    variables: tuple[Variable, ...]
    reading: Reading
    plain: Answer | None
    inputs: tuple[str, ...]
    needles: tuple[str, ...]
    usual: tuple[int, int, int] | None
    is_everyday: bool
    #: What is worked out for it when first needed.
    memo: dict[str, Any] = field(default_factory=dict)

    def asserted(self) -> list[Variable]:
        """The variables that have to be true for it to be true, through others too."""
        names, found = set(self.reading.asserted), []
        for one in reversed(self.variables):  # each stands behind those that it reads
            if one.name in names:
                names |= one.reading.asserted
                found.append(one)
        return found

    def estimate(self) -> Estimate:
        """How long an evaluation may take, given how large its inputs are."""
        tree = decode(self.expression.serialize())
        return self.scope.estimate(self.variables, tree, self.reading)


class Scope:
    """The names of one policy: ours, its constants and its variables."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self.constants = {f"constants.{name}": value for name, value in constants.items()}
        self.variables: dict[str, Variable] = {}
        self._types = {name: _TYPES[fact.kind] for name, fact in FACTS.items()}
        self._types |= {name: _type_of(value) for name, value in self.constants.items()}
        self._is_extended = False
        self.environment = self._environment()
        self._prepared: dict[str, Any] = {}

    def prepare(self, texts: Iterable[str]) -> None:
        """Compiles texts that will be asked for, once all variables are there. One after the other
        they take a third less: what else is done with each is then out of the library's way. One
        that does not compile is left until it is asked for."""
        for text in texts:
            if len(text) <= EXPRESSION_LENGTH_MAX and text not in self._prepared:
                with contextlib.suppress(RuntimeError, ValueError, TypeError):
                    self._prepared[text] = self._parsed(text)

    def _parsed(self, text: str) -> Any:
        """The text compiled; raises what the library raises.

        Optional values and functions on texts are parts of the library that come with the first
        text that does not compile without them: they only add names and signs, so that what
        compiles without means the same.
        """
        try:
            return self.environment.compile(text)
        except (RuntimeError, ValueError, TypeError):
            if self._is_extended:
                raise
        self._is_extended = True
        self.environment = self._environment()
        return self.environment.compile(text)

    def _environment(self, more: Mapping[str, Any] | None = None) -> Any:
        return cel.NewEnv(
            variables={**self._types, **(more or {})},
            extensions=[*_extensions(), _declared()] if self._is_extended else [_declared()],
            functions=_FUNCTIONS,
        )

    def add_variable(self, name: str, text: str) -> Reading:
        """Compiles a variable and makes it readable; raises BadExpression."""
        expression, reading, tree = self._compile(text)
        full_name = f"variables.{name}"
        needs = tuple(self.variables[one] for one in sorted(reading.names & set(self.variables)))
        self._pace(self._all_needed(reading), tree, reading)
        self.variables[full_name] = Variable(full_name, expression, reading, needs)
        gives = expression.return_type()
        if gives.name().startswith("optional_type"):
            raise BadExpression([Finding(0, "gives an optional value", "end it with orValue()")])
        self._types[full_name] = gives
        self.environment = self._environment()
        return reading

    def condition(self, text: str) -> Condition:
        """Compiles a condition; raises BadExpression unless it may give true or false."""
        return self._whole(text, is_number=False)

    def number(self, text: str) -> Condition:
        """Compiles what gives a number; raises BadExpression unless it may."""
        return self._whole(text, is_number=True)

    def _whole(self, text: str, *, is_number: bool) -> Condition:
        expression, reading, tree = self._compile(text)
        wrong = _wrong_type(expression.return_type(), is_number=is_number)
        if wrong:
            raise BadExpression(wrong)
        variables = self._all_needed(reading)
        names, run = set(reading.names), set(reading.run)
        for variable in variables:
            names |= variable.reading.names
            run |= set(variable.reading.run)
        inputs = _inputs(variables, reading)
        needles, usual = self._pace(variables, tree, reading)
        is_plain = all(name.startswith("args.") for name in inputs)
        return Condition(
            self,
            expression,
            frozenset(names & FACTS.keys()),
            frozenset(run),
            frozenset(names & self.constants.keys()),
            variables,
            reading,
            plain_answer(tree, self.constants),
            inputs,
            needles,
            usual,
            is_everyday=usual is not None and not needles and is_plain,
        )

    def _all_needed(self, reading: Reading) -> tuple[Variable, ...]:
        """The variables an expression needs, in an order in which they can be evaluated."""
        found: dict[str, Variable] = {}
        for name in sorted(reading.names & self.variables.keys()):
            _collect(self.variables[name], found)
        return tuple(found.values())

    def estimate(self, variables: Sequence[Variable], tree: Term, reading: Reading) -> Estimate:
        """Of an expression with the variables it needs."""
        steps = [
            Step(one.name, decode(one.expression.serialize()), frozenset(one.reading.names))
            for one in variables
        ]
        return Estimate([*steps, Step("", tree, frozenset(reading.names))], self.constants)

    def _pace(
        self, variables: Sequence[Variable], tree: Term, reading: Reading
    ) -> tuple[Needles, tuple[int, int, int] | None]:
        """What it splits at, and on what it needs no meter; raises BadExpression if it may take
        too long on any call."""
        if any(one.has_errors for one in (reading, *(needed.reading for needed in variables))):
            return (), None  # it never judges
        if not (variables or reading.has_loops) and are_cheap(
            reading.functions, reading.term_count
        ):
            return (), USUAL[0]
        estimate = self.estimate(variables, tree, reading)
        inputs = _inputs(variables, reading)
        try:
            for usual in USUAL:
                extents = dict.fromkeys(inputs, uniform(*usual, estimate.needles))
                if estimate.ns(extents) <= COST_MAX_NS:
                    return estimate.needles, usual
            small = uniform(*SMALL, estimate.needles)
            given = dict.fromkeys((one.name for one in variables), small)
            fare = estimate.fare(estimate.steps[-1], dict.fromkeys(inputs, small), given)
        except Uncountable as error:
            raise BadExpression([Finding(error.offset, error.message, error.hint)]) from None
        if fare.ns > COST_MAX_NS or not estimate.has_loops:
            raise BadExpression([Finding(0, _TOO_SLOW, _TOO_SLOW_HINT)])
        return estimate.needles, None

    def with_arguments(self, types: Mapping[str, str]) -> Any:
        """What `check` needs to know the types of arguments by (`int`, `[string]` …). It takes
        longer to make than to use."""
        known = {f"args.{name}": _ARGUMENT_TYPES[text] for name, text in types.items()}
        return self._environment(known)

    def check(self, text: str, with_arguments: Any, *, is_number: bool | None) -> list[Finding]:
        """What is wrong with an expression that compiled, once types of arguments are known.
        `is_number` None: it may give anything."""
        try:
            gives = with_arguments.compile(text).return_type()
        except (RuntimeError, ValueError, TypeError) as error:
            return _findings(str(error), text, self._types)
        return [] if is_number is None else _wrong_type(gives, is_number=is_number)

    def _compile(self, text: str) -> tuple[Any, Reading, Term]:
        if len(text) > EXPRESSION_LENGTH_MAX:
            message = f"longer than {EXPRESSION_LENGTH_MAX} characters"
            raise BadExpression([Finding(0, message)])
        expression = self._prepared.pop(text, None)
        try:
            if expression is None:
                expression = self._parsed(text)
        except (RuntimeError, ValueError, TypeError) as error:
            raise BadExpression(_findings(str(error), text, self._types)) from None
        compiled = expression.serialize()
        if len(compiled) > COMPILED_BYTES_MAX:
            message = "too large once its macros are written out"
            raise BadExpression([Finding(0, message, "each optMap doubles what it is called on")])
        tree = decode(compiled)
        return expression, inspect(tree, _judge_literal, self.constants), tree


def _judge_literal(function: str, literal: str) -> str:
    environment, expression = _probe(function)
    try:
        answer = expression.eval(environment.Activation({"agent.name": literal}))
    except (RuntimeError, ValueError, TypeError) as error:
        return first_line(str(error))
    if answer.type() == _TYPE.ERROR:
        return first_line(str(answer.value()))
    return _BOUNDS[function] if function in _BOUNDS and answer.value() is False else ""


@functools.cache
def _probe(function: str) -> tuple[Any, Any]:
    environment = Scope({}).environment
    return environment, environment.compile(_PROBES[function])


#: A literal is tried by evaluating the function on it; `agent.name` stands in as a text.
_PROBES = {
    "matches": '"".matches(agent.name)',
    "timestamp": "timestamp(agent.name) == timestamp(0)",
    "duration": 'duration(agent.name) == duration("0s")',
    "cidr": 'cidr(agent.name) == ""',
    "inDomain": 'inDomain("a", agent.name)',
    "under": 'under("/", agent.name)',
    COUNT: 'duration(agent.name) > duration("0s") && duration(agent.name) <= duration("24h")',
}
#: What is wrong with a literal of which the function above says false.
_BOUNDS = {COUNT: "run.count looks back 24h at most"}

#: By each of TELLING_TYPES.
_ARGUMENT_TYPES = {"string": _TYPE.STRING, "int": _TYPE.INT, "bool": _TYPE.BOOL}
_ARGUMENT_TYPES |= {f"[{text}]": _TYPE.List(kind) for text, kind in _ARGUMENT_TYPES.items()}


def _wrong_type(gives: Any, *, is_number: bool) -> list[Finding]:
    wanted = (_TYPE.INT, _TYPE.UINT, _TYPE.DOUBLE) if is_number else (_TYPE.BOOL,)
    if gives in wanted or gives == _TYPE.DYN:
        return []
    what = "a number" if is_number else "true or false"
    return [Finding(0, f"gives {gives.name().lower()}, not {what}")]


def _inputs(variables: Sequence[Variable], reading: Reading) -> tuple[str, ...]:
    names = set(reading.inputs).union(*(one.reading.inputs for one in variables))
    return tuple(sorted(names))


def _collect(variable: Variable, found: dict[str, Variable]) -> None:
    if variable.name in found:
        return  # with all it needs; looked at again, a chain of pairs would take for ever
    for needed in variable.needs:
        _collect(needed, found)
    found.setdefault(variable.name, variable)


def _type_of(value: Any) -> Any:
    if type(value) in _SCALAR_TYPES:
        return _SCALAR_TYPES[type(value)]
    if isinstance(value, list):
        return _TYPE.List(_common_type(value))
    return _TYPE.Map(_TYPE.STRING, _common_type(value.values()))


def _common_type(values: Iterable[Any]) -> Any:
    kinds = {type(value) for value in values}
    if len(kinds) == 1:
        only = kinds.pop()
        if only in _SCALAR_TYPES:
            return _SCALAR_TYPES[only]
    return _TYPE.DYN


def _findings(message: str, text: str, names: Iterable[str]) -> list[Finding]:
    if _TOO_DEEP.search(message):
        return [Finding(0, "nested deeper than 32", "give parts of it a name under `variables`")]
    found = [
        _finding(text, int(line), int(column), what, names)
        for line, column, what in _ERROR.findall(message)
        if "'*error*'" not in what  # follows from another one
    ]
    return telling(found) or [Finding(0, first_line(message))]


def _finding(text: str, line: int, column: int, what: str, names: Iterable[str]) -> Finding:
    what = what.removesuffix(" [INVALID_ARGUMENT]").partition(" expecting {")[0]
    offset = sum(len(one) + 1 for one in text.split("\n")[: max(line - 1, 0)]) + max(column - 1, 0)
    undeclared = _UNDECLARED.search(what)
    if undeclared is not None:
        missing = undeclared[1]
        start = text.rfind(first := missing.partition(".")[0], 0, offset + len(first))
        hint = hint_for_missing(text, missing, max(start, 0), names)
        return Finding(max(start, 0), f'there is no "{missing}"', hint)
    return Finding(offset, what, hint_for(text, what))
