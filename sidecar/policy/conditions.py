"""Conditions in CEL, compiled with a type check.

Knows: the types of our names and functions, and what the CEL library (cel-expr-python) says of an
expression that does not compile. How compiled ones are evaluated, its neighbour knows.
Must not know: YAML, files, which rule wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

from sidecar.policy import cel_functions
from sidecar.policy.cel_checks import COUNT, Finding, Reading, inspect
from sidecar.policy.cel_tree import Term, decode
from sidecar.policy.evaluation import COUNT_TAKES, first_line
from sidecar.policy.facts import FACTS, Kind
from sidecar.policy.fields import did_you_mean
from sidecar.policy.plain import Answer, plain_answer

EXPRESSION_LENGTH_MAX = 10_000

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
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_RANK_HINT = "trust and risk are ranks: compare with trust.NAME or risk.NAME, without quotes"


class BadExpression(Exception):
    """An expression that does not compile; `findings` say why."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = tuple(findings)


def _overload(
    name: str, gives: cel.Type, takes: list[cel.Type], run: Any, *, is_member: bool = False
) -> cel.FunctionDecl:
    overload = cel.Overload(f"aegis_{name}", gives, takes, is_member, run)
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


def _declared() -> cel.CelExtension:
    """`run.count` needs the run, so each call supplies its own; here it is only declared."""
    overload = cel.Overload(f"aegis_{COUNT}", _TYPE.INT, COUNT_TAKES, False)
    return cel.CelExtension("aegis_runs", [cel.FunctionDecl(COUNT, [overload])])


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
    what needs no CEL."""

    scope: Scope
    expression: Any
    facts: frozenset[str]
    run: frozenset[str]
    constants: frozenset[str]
    variables: tuple[Variable, ...]
    reading: Reading
    plain: Answer | None


class Scope:
    """The names of one policy: ours, its constants and its variables."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self.constants = {f"constants.{name}": value for name, value in constants.items()}
        self.variables: dict[str, Variable] = {}
        self._types = {name: _TYPES[fact.kind] for name, fact in FACTS.items()}
        self._types |= {name: _type_of(value) for name, value in self.constants.items()}
        self.environment = self._environment()

    def _environment(self, more: Mapping[str, Any] | None = None) -> Any:
        return cel.NewEnv(
            variables={**self._types, **(more or {})},
            extensions=[ext_optional.ExtOptional(), ext_strings.ExtStrings(), _declared()],
            functions=_FUNCTIONS,
        )

    def add_variable(self, name: str, text: str) -> Reading:
        """Compiles a variable and makes it readable; raises BadExpression."""
        expression, reading, _ = self._compile(text)
        full_name = f"variables.{name}"
        needs = tuple(self.variables[one] for one in sorted(reading.names & set(self.variables)))
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
        variables: dict[str, Variable] = {}
        for name in sorted(reading.names & set(self.variables)):
            _collect(self.variables[name], variables)
        names, run = set(reading.names), set(reading.run)
        for variable in variables.values():
            names |= variable.reading.names
            run |= set(variable.reading.run)
        return Condition(
            self,
            expression,
            frozenset(names & set(FACTS)),
            frozenset(run),
            frozenset(names & set(self.constants)),
            tuple(variables.values()),
            reading,
            plain_answer(tree, self.constants),
        )

    def with_arguments(self, types: Mapping[str, str]) -> Any:
        """What `check` needs to know the types of arguments by (`int`, `[string]` …). It takes
        longer to make than to use."""
        known = {f"args.{name}": _ARGUMENT_TYPES[text] for name, text in types.items()}
        return self._environment(known)

    def check(self, text: str, with_arguments: Any, *, is_number: bool) -> list[Finding]:
        """What is wrong with an expression that compiled, once types of arguments are known."""
        try:
            gives = with_arguments.compile(text).return_type()
        except (RuntimeError, ValueError, TypeError) as error:
            return _findings(str(error), text, self._types)
        return _wrong_type(gives, is_number=is_number)

    def _compile(self, text: str) -> tuple[Any, Reading, Term]:
        if len(text) > EXPRESSION_LENGTH_MAX:
            message = f"longer than {EXPRESSION_LENGTH_MAX} characters"
            raise BadExpression([Finding(0, message)])
        try:
            expression = self.environment.compile(text)
        except (RuntimeError, ValueError, TypeError) as error:
            raise BadExpression(_findings(str(error), text, self._types)) from None
        tree = decode(expression.serialize())
        return expression, inspect(tree, self._judge_literal), tree

    def _judge_literal(self, function: str, literal: str) -> str:
        template, value = _PROBES[function], literal
        try:
            found = self.environment.compile(template)
            answer = found.eval(self.environment.Activation({"agent.name": value}))
        except (RuntimeError, ValueError, TypeError) as error:
            return first_line(str(error))
        return first_line(str(answer.value())) if answer.type() == _TYPE.ERROR else ""


#: A literal is tried by evaluating the function on it; `agent.name` stands in as a text.
_PROBES = {
    "matches": '"".matches(agent.name)',
    "timestamp": "timestamp(agent.name) == timestamp(0)",
    "duration": 'duration(agent.name) == duration("0s")',
    "cidr": 'cidr(agent.name) == ""',
    "inDomain": 'inDomain("a", agent.name)',
    "under": 'under("/", agent.name)',
}


_ARGUMENT_TYPES = {"string": _TYPE.STRING, "int": _TYPE.INT, "bool": _TYPE.BOOL}
_ARGUMENT_TYPES |= {f"[{text}]": _TYPE.List(kind) for text, kind in _ARGUMENT_TYPES.items()}

#: Types of declared arguments that tell mistakes; a number may be of two, the rest of any.
TELLING_TYPES = frozenset(_ARGUMENT_TYPES)


def _wrong_type(gives: Any, *, is_number: bool) -> list[Finding]:
    wanted = (_TYPE.INT, _TYPE.UINT, _TYPE.DOUBLE) if is_number else (_TYPE.BOOL,)
    if gives in wanted or gives == _TYPE.DYN:
        return []
    what = "a number" if is_number else "true or false"
    return [Finding(0, f"gives {gives.name().lower()}, not {what}")]


def _collect(variable: Variable, found: dict[str, Variable]) -> None:
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
    found = [
        _finding(text, int(line), int(column), what, names)
        for line, column, what in _ERROR.findall(message)
        if "'*error*'" not in what  # follows from another one
    ]
    return found or [Finding(0, first_line(message))]


def _finding(text: str, line: int, column: int, what: str, names: Iterable[str]) -> Finding:
    what = what.removesuffix(" [INVALID_ARGUMENT]").partition(" expecting {")[0]
    offset = sum(len(one) + 1 for one in text.split("\n")[: max(line - 1, 0)]) + max(column - 1, 0)
    undeclared = _UNDECLARED.search(what)
    if undeclared is not None:
        missing = undeclared[1]
        start = text.rfind(missing.partition(".")[0], 0, offset + 1)
        hint = did_you_mean(missing, [*names, *_FUNCTION_NAMES])
        return Finding(max(start, 0), f'there is no "{missing}"', hint)
    is_about_ranks = "no matching overload" in what and "int, string" in what
    return Finding(offset, what, _RANK_HINT if is_about_ranks and _RANK.search(text) else "")


_RANK = re.compile(r"\b(trust|risk|returns)\b")
_FUNCTION_NAMES = ("host", "inDomain", "under", "glob", "cidr", "containsIP", "matches", "has")
