"""Conditions in CEL: compiled with a type check, evaluated with one activation a call.

The one file that knows the CEL library (cel-expr-python). Its traps are met here: errors come
back as values whose content is a truthy text, so only `True` and `False` themselves count;
strings are cut at NUL, so a call that holds one is an error; some failures raise.
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
from sidecar.policy.cel_checks import Finding, Reading, inspect
from sidecar.policy.cel_tree import Term, decode
from sidecar.policy.facts import (
    FACTS,
    FROM_THE_WIRE,
    NOT_CARRIED_OUT,
    Facts,
    Kind,
    holds_nul,
    is_plain_json,
)
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
_STATUS = re.compile(r"^[A-Z_]+: ")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_RANK_HINT = "trust and risk are ranks: compare with trust.NAME or risk.NAME, without quotes"


class ConditionError(Exception):
    """A condition that gave neither true nor false; the message is for operators."""


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


def _never(*arguments: Any) -> int:
    raise ConditionError("run.count is not carried out by this version")


_TEXT, _BOOL = _TYPE.STRING, _TYPE.BOOL
_FUNCTIONS = [
    _overload("host", _TEXT, [_TEXT], cel_functions.host),
    _overload("inDomain", _BOOL, [_TEXT, _TEXT], cel_functions.in_domain),
    _overload("under", _BOOL, [_TEXT, _TEXT], cel_functions.under),
    _overload("glob", _BOOL, [_TEXT, _TEXT], cel_functions.glob),
    _overload("cidr", _TEXT, [_TEXT], cel_functions.cidr),
    _overload("containsIP", _BOOL, [_TEXT, _TEXT], cel_functions.contains_ip, is_member=True),
    _overload("run.count", _TYPE.INT, [_TEXT, _TYPE.DURATION], _never),
]


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """A named expression of a policy; `needs` are the variables it reads itself."""

    name: str
    expression: Any
    reading: Reading
    needs: tuple[Variable, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A compiled `when`. `variables` stand in the order in which they can be evaluated;
    `plain` answers what needs no CEL."""

    scope: Scope
    expression: Any
    facts: frozenset[str]
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
        self._types |= {name: _TYPES[kind] for name, kind in NOT_CARRIED_OUT.items()}
        self._types |= {name: _type_of(value) for name, value in self.constants.items()}
        self.environment = self._environment()

    def _environment(self) -> Any:
        return cel.NewEnv(
            variables=self._types,
            extensions=[ext_optional.ExtOptional(), ext_strings.ExtStrings()],
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
        expression, reading, tree = self._compile(text)
        gives = expression.return_type()
        if gives not in (_TYPE.BOOL, _TYPE.DYN):
            raise BadExpression([Finding(0, f"gives {gives.name().lower()}, not true or false")])
        variables: dict[str, Variable] = {}
        for name in sorted(reading.names & set(self.variables)):
            _collect(self.variables[name], variables)
        names = set(reading.names)
        for variable in variables.values():
            names |= variable.reading.names
        return Condition(
            self,
            expression,
            frozenset(names & set(FACTS)),
            frozenset(names & set(self.constants)),
            tuple(variables.values()),
            reading,
            plain_answer(tree, self.constants),
        )

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
            return _first_line(str(error))
        return _first_line(str(answer.value())) if answer.type() == _TYPE.ERROR else ""


#: A literal is tried by evaluating the function on it; `agent.name` stands in as a text.
_PROBES = {
    "matches": '"".matches(agent.name)',
    "timestamp": "timestamp(agent.name) == timestamp(0)",
    "duration": 'duration(agent.name) == duration("0s")',
    "cidr": 'cidr(agent.name) == ""',
    "inDomain": 'inDomain("a", agent.name)',
    "under": 'under("/", agent.name)',
}


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
    return found or [Finding(0, _first_line(message))]


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


def _first_line(text: str) -> str:
    line = _STATUS.sub("", text.partition("\n")[0])
    return line.removesuffix(" [INVALID_ARGUMENT]")[:300]


class BoundScope:
    """A scope with the union of what the conditions of one tool read: what a call must supply."""

    __slots__ = ("_constants", "_reads", "_scope", "_wire")

    def __init__(self, scope: Scope, conditions: Iterable[Condition]) -> None:
        facts: set[str] = set()
        constants: set[str] = set()
        for condition in conditions:
            facts |= condition.facts
            constants |= condition.constants
        self._scope = scope
        self._reads = tuple((name, FACTS[name].read) for name in sorted(facts))
        self._wire = tuple(sorted(facts & FROM_THE_WIRE))
        self._constants = {name: scope.constants[name] for name in sorted(constants)}

    def holds(self, condition: Condition, facts: Facts) -> bool:
        """Whether the condition is true of the call; raises ConditionError and what CEL raises."""
        if condition.plain is not None and self._is_readable(facts):
            answer = condition.plain(facts)
            if answer is not None:
                return answer
        frame = facts.frames.get(self)
        if frame is None:
            frame = facts.frames[self] = self._open(facts)
        return frame.holds(condition)

    def _is_readable(self, facts: Facts) -> bool:
        """Whether what the conditions of the tool read is nothing the library stumbles over."""
        for name in self._wire:
            if name not in facts.readable:
                value = facts.call.args if name == "args" else FACTS[name].read(facts)
                if not is_plain_json(value):
                    return False
                facts.readable.add(name)
        return True

    def _open(self, facts: Facts) -> _Frame:
        data = {name: read(facts) for name, read in self._reads}
        for name in self._wire:
            if name not in facts.readable and holds_nul(data[name]):
                raise ConditionError(f"{name} holds NUL, which conditions cannot read")
        data.update(self._constants)
        return _Frame(self._scope.environment, data)


class _Frame:
    """What one call supplies to one scope; variables are evaluated when first read."""

    __slots__ = ("_activation", "_data", "_environment", "_known")

    def __init__(self, environment: Any, data: dict[str, Any]) -> None:
        self._environment = environment
        self._data = data
        self._activation = environment.Activation(data)
        self._known: set[str] = set()

    def holds(self, condition: Condition) -> bool:
        for variable in condition.variables:
            if variable.name not in self._known:
                self._evaluate(variable)
        value = condition.expression.eval(self._activation)
        answer = value.value()
        if answer is True:
            return True
        if answer is False:
            return False
        if value.type() == _TYPE.ERROR:
            raise ConditionError(_first_line(str(answer)))
        raise ConditionError(f"gives {value.type().name().lower()}, not true or false")

    def _evaluate(self, variable: Variable) -> None:
        """One that fails stays unknown: reading it is then the error, as if it stood inline."""
        self._known.add(variable.name)
        value = variable.expression.eval(self._activation)
        if value.type() == _TYPE.ERROR:
            return
        self._data[variable.name] = value.plain_value()
        self._activation = self._environment.Activation(self._data)
