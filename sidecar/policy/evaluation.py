"""Compiled conditions, evaluated: one activation of the CEL library a call and policy.

Knows: the library's traps. Errors come back as values whose content is a truthy text, so only
`True` and `False` themselves count; strings are cut at NUL, so a call that holds one is an error;
some failures raise.
Must not know: how conditions are compiled, which rule asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cel_expr_python import cel

from sidecar.policy.cel_checks import COUNT
from sidecar.policy.facts import FACTS, FROM_THE_WIRE, Facts, holds_nul, is_plain_json
from sidecar.policy.runs import count_calls

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition, Scope, Variable

_TYPE = cel.Type
_STATUS = re.compile(r"^[A-Z_]+: ")
_MICROSECOND = timedelta(microseconds=1)

#: What `run.count` takes: a glob and a duration.
COUNT_TAKES = [_TYPE.STRING, _TYPE.DURATION]


class ConditionError(Exception):
    """A condition that gave neither true nor false; the message is for operators."""


class BoundScope:
    """A scope with the union of what the conditions of one tool read: what a call must supply."""

    __slots__ = ("_constants", "_counts", "_reads", "_scope", "_wire")

    def __init__(self, scope: Scope, conditions: Iterable[Condition]) -> None:
        facts: set[str] = set()
        constants: set[str] = set()
        self._counts = False
        for condition in conditions:
            facts |= condition.facts
            constants |= condition.constants
            self._counts |= COUNT in condition.run
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
        value = self._frame(facts).value(condition)
        answer = value.value()
        if answer is True:
            return True
        if answer is False:
            return False
        raise _failed(value, "true or false")

    def number(self, condition: Condition, facts: Facts) -> int | float:
        """The number a condition made by `Scope.number` gives; raises as `holds` does."""
        value = self._frame(facts).value(condition)
        answer: Any = value.value()
        if value.type() in (_TYPE.INT, _TYPE.UINT, _TYPE.DOUBLE) and type(answer) in (int, float):
            return answer  # type: ignore[no-any-return]
        raise _failed(value, "a number")

    def _frame(self, facts: Facts) -> _Frame:
        frame: _Frame | None = facts.frames.get(self)
        if frame is None:
            frame = facts.frames[self] = self._open(facts)
        return frame

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
        functions = [_counting(facts)] if self._counts else None
        return _Frame(self._scope.environment, data, functions)


class _Frame:
    """What one call supplies to one scope; variables are evaluated when first read."""

    __slots__ = ("_activation", "_data", "_environment", "_functions", "_known")

    def __init__(
        self, environment: Any, data: dict[str, Any], functions: list[cel.Function] | None
    ) -> None:
        self._environment = environment
        self._data = data
        self._functions = functions
        self._activation = environment.Activation(data, functions)
        self._known: set[str] = set()

    def value(self, condition: Condition) -> Any:
        """What an expression gives, as the library's own value."""
        for variable in condition.variables:
            if variable.name not in self._known:
                self._evaluate(variable)
        return condition.expression.eval(self._activation)

    def _evaluate(self, variable: Variable) -> None:
        """One that fails stays unknown: reading it is then the error, as if it stood inline."""
        self._known.add(variable.name)
        value = variable.expression.eval(self._activation)
        if value.type() == _TYPE.ERROR:
            return
        self._data[variable.name] = value.plain_value()
        self._activation = self._environment.Activation(self._data, self._functions)


def _failed(value: Any, wanted: str) -> ConditionError:
    if value.type() == _TYPE.ERROR:
        return ConditionError(first_line(str(value.value())))
    return ConditionError(f"gives {value.type().name().lower()}, not {wanted}")


def _counting(facts: Facts) -> cel.Function:
    def count(pattern: str, window: timedelta) -> int:
        return count_calls(facts.run, pattern, window // _MICROSECOND, facts.now_us)

    return cel.Function(COUNT, COUNT_TAKES, False, count, _TYPE.INT)


def first_line(text: str) -> str:
    """The first line of what the library says, without its status."""
    line = _STATUS.sub("", text.partition("\n")[0])
    return line.removesuffix(" [INVALID_ARGUMENT]")[:300]
