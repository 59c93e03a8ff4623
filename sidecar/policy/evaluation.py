"""Compiled conditions, evaluated: one activation of the CEL library a call and policy.

Knows: the library's traps. Errors come back as values whose content is a truthy text, so only
`True` and `False` themselves count; strings are cut at NUL, so one that holds it is an error; some
failures raise; nothing stops an evaluation, so what may take too long is never begun.
Must not know: how conditions are compiled, which rule asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cel_expr_python import cel

from sidecar.policy.admission import ConditionError, Metered, OutOfReach, admitted, inputs_of
from sidecar.policy.cel_checks import COUNT
from sidecar.policy.cel_costs import COST_MAX_NS, transport_ns
from sidecar.policy.cel_errors import without_values, written_names
from sidecar.policy.cel_extents import Extent, extent_of, rounded_up
from sidecar.policy.cel_metering import TEXT, TICK
from sidecar.policy.cel_references import kept_by_nobody
from sidecar.policy.cel_tree import decode
from sidecar.policy.facts import FACTS, Facts, measured
from sidecar.policy.meter import Meter, OverBudget, running
from sidecar.policy.runs import count_calls
from sidecar.policy.sizes import Unreadable

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition, Scope, Variable

_TYPE = cel.Type
_MICROSECOND = timedelta(microseconds=1)

#: More than this is supplied to each condition alone, which then has what it reads, no more.
_SHARED_VALUES_MAX = 256
_SHARED_BYTES_MAX = 16_384

#: What `run.count` takes: a glob and a duration.
COUNT_TAKES = [_TYPE.STRING, _TYPE.DURATION]
#: What the meter takes: which loop, and how long the list is that the loop fills.
TICK_TAKES = [_TYPE.INT, _TYPE.INT]
#: And what else it takes: a text, and which call is made on it.
TEXT_TAKES = [_TYPE.STRING, _TYPE.INT]
_VALUES: Final = "values"
_SUPPLY: Final = "supply"
_WRITTEN: Final = "written"


class BoundScope:
    """A scope with the union of what the conditions of one tool read: what a call must supply."""

    __slots__ = ("_counts", "_inputs", "_reads_arguments", "_scope", "_supply")

    def __init__(self, scope: Scope, conditions: Sequence[Condition]) -> None:
        self._scope = scope
        self._counts = any(COUNT in condition.run for condition in conditions)
        self._supply = _Supply(scope, conditions)
        self._inputs = tuple({name for one in conditions for name in one.inputs})
        self._reads_arguments = all(one.is_everyday for one in conditions)

    def holds(self, condition: Condition, facts: Facts) -> bool:
        """Whether the condition is true of the call; raises ConditionError and what CEL raises."""
        metered = admitted(condition, facts)
        if condition.plain is not None and metered is None:
            answer = condition.plain(facts)
            if answer is not None:
                return answer
        value = self._value(condition, facts, metered)
        answer = value.value()
        if answer is True:
            return True
        if answer is False:
            return False
        raise _failed(value, condition, "true or false")

    def number(self, condition: Condition, facts: Facts) -> int | float:
        """The number a condition made by `Scope.number` gives; raises as `holds` does."""
        value = self._value(condition, facts, admitted(condition, facts))
        answer: Any = value.value()
        if value.type() in (_TYPE.INT, _TYPE.UINT, _TYPE.DOUBLE) and type(answer) in (int, float):
            return answer  # type: ignore[no-any-return]
        raise _failed(value, condition, "a number")

    def _value(self, condition: Condition, facts: Facts, metered: Metered | None) -> Any:
        if metered is None:
            return self._frame(condition, facts).value(condition)
        inputs = inputs_of(condition, facts)
        meter = Meter(COST_MAX_NS, sum(one.bytes for one in inputs.values()))
        supply = condition.memo.get(_SUPPLY)
        if supply is None:
            supply = condition.memo[_SUPPLY] = _Supply(self._scope, [condition])
        value = self._new(supply, facts).metered_value(metered, meter, inputs)
        if meter.left_ns < 0 and value.type() == _TYPE.ERROR:
            raise OutOfReach(str(OverBudget()))
        return value

    def _frame(self, condition: Condition, facts: Facts) -> _Frame:
        """What all conditions of the tool read, supplied once; what is large, to each alone."""
        frame: _Frame | None = facts.frames.get(self)
        if frame is not None:
            return frame
        if self not in facts.frames and self._is_small(facts):
            return self._open(self, self._supply, facts)
        facts.frames[self] = None
        frame = facts.frames.get(condition)
        if frame is None:
            frame = self._open(condition, _Supply(self._scope, [condition]), facts)
        return frame

    def _is_small(self, facts: Facts) -> bool:
        """Whether all inputs together can be supplied to every condition at next to no cost."""
        if self._reads_arguments and facts.quick_size is not None:
            return True
        values = total = 0
        for name in self._inputs:
            try:
                size = measured(facts, name)
            except Unreadable:
                return False
            values += size.values
            total += size.bytes
        return values <= _SHARED_VALUES_MAX and total <= _SHARED_BYTES_MAX

    def _open(self, key: object, supply: _Supply, facts: Facts) -> _Frame:
        frame = facts.frames[key] = self._new(supply, facts)
        return frame

    def _new(self, supply: _Supply, facts: Facts) -> _Frame:
        values = facts.frames.setdefault((self, _VALUES), {})
        functions = self._functions(facts)
        return _Frame(self._scope.environment, supply.of(facts), functions, values)

    def _functions(self, facts: Facts) -> list[cel.Function]:
        return [_counting(facts)] if self._counts else []


class _Supply:
    """What some conditions of one scope read, and how it is taken out of a call."""

    __slots__ = ("_arguments", "_constants", "_reads")

    def __init__(self, scope: Scope, conditions: Iterable[Condition]) -> None:
        facts: set[str] = set()
        constants: set[str] = set()
        inputs: set[str] = set()
        for condition in conditions:
            facts |= condition.facts
            constants |= condition.constants
            inputs.update(condition.inputs)
        self._arguments: tuple[str, ...] | None = None
        if "args" in facts and "args" not in inputs:
            prefix = "args."
            named = (one for one in inputs if one.startswith(prefix))
            self._arguments = tuple(sorted(one[len(prefix) :] for one in named))
            facts.discard("args")
        self._reads = tuple((name, FACTS[name].read) for name in sorted(facts))
        self._constants = {name: scope.constants[name] for name in sorted(constants)}

    def of(self, facts: Facts) -> dict[str, Any]:
        """By name; of the arguments only those that are read, if it can be told which."""
        data = {name: read(facts) for name, read in self._reads}
        if self._arguments is not None:
            args = facts.call.args
            data["args"] = {name: args[name] for name in self._arguments if name in args}
        data.update(self._constants)
        return data


class _Value(NamedTuple):
    """What a variable gave on a meter, how large it is, and what it took."""

    value: Any
    extent: Extent
    ns: float


class _Frame:
    """What one call supplies to one scope; variables are evaluated when first read."""

    __slots__ = ("_activation", "_data", "_environment", "_functions", "_known", "_own", "_values")

    def __init__(
        self,
        environment: Any,
        data: dict[str, Any],
        functions: list[cel.Function],
        values: dict[str, _Value],
    ) -> None:
        self._environment = environment
        self._data = data
        self._functions = functions
        self._own = len(functions)
        self._values = values
        self._activation: Any = None
        self._known: set[str] = set()

    def value(self, condition: Condition) -> Any:
        """What an expression gives, as the library's own value."""
        for variable in condition.variables:
            if variable.name not in self._known:
                self._evaluate(variable)
        return self._eval(condition.expression)

    def _eval(self, expression: Any) -> Any:
        if self._activation is None:
            self._activation = self._environment.Activation(self._data, self._functions or None)
        return expression.eval(self._activation)

    def _tell(self, meter: Meter) -> None:
        """From here on the functions of the meter are known."""
        tick = cel.Function(TICK, TICK_TAKES, False, kept_by_nobody(meter.tick, 2), _TYPE.BOOL)
        text = cel.Function(TEXT, TEXT_TAKES, False, kept_by_nobody(meter.text, 2), _TYPE.STRING)
        self._functions = [*self._functions[: self._own], tick, text]
        self._activation = None

    def metered_value(self, metered: Metered, meter: Meter, inputs: Mapping[str, Extent]) -> Any:
        """The same, on a meter where that is needed. What a variable took that was evaluated so
        before is counted again, so that it does not matter who came first."""
        known: dict[str, Extent] = {}
        value: Any = None
        for number, step in enumerate(metered.steps):
            before = self._values.get(step.name)
            if before is not None:
                meter.spend(before.ns)
                self._give(step.name, before.value)
                known[step.name] = before.extent
                continue
            left_ns = meter.left_ns
            value = self._metered_step(metered, number, meter, inputs, known)
            if step.name and self._take(step.name, value):
                given = extent_of(self._data[step.name], metered.needles)
                meter.spend(transport_ns(given))
                known[step.name] = rounded_up(given)
                self._values[step.name] = _Value(
                    self._data[step.name], known[step.name], left_ns - meter.left_ns
                )
        return value

    def _metered_step(
        self,
        metered: Metered,
        number: int,
        meter: Meter,
        inputs: Mapping[str, Extent],
        known: Mapping[str, Extent],
    ) -> Any:
        bound_ns = metered.bound_ns(number, inputs, known)
        if bound_ns <= meter.left_ns / 2:
            meter.spend(bound_ns)
            return self._eval(metered.expressions[number])
        fare = metered.fare(number, inputs, known)
        meter.begin(fare.ns, fare.turns, metered.texts[number])
        self._tell(meter)
        with running(meter):
            return self._eval(metered.metered_expressions[number])

    def _evaluate(self, variable: Variable) -> None:
        self._known.add(variable.name)
        before = self._values.get(variable.name)
        if before is not None:
            self._give(variable.name, before.value)
        else:
            self._take(variable.name, self._eval(variable.expression))

    def _take(self, name: str, value: Any) -> bool:
        """One that fails stays unknown: reading it is then the error, as if it stood inline."""
        if value.type() == _TYPE.ERROR:
            return False
        self._give(name, value.plain_value())
        return True

    def _give(self, name: str, value: Any) -> None:
        self._data[name] = value
        self._activation = None


def _failed(value: Any, condition: Condition, wanted: str) -> ConditionError:
    if value.type() == _TYPE.ERROR:
        written = condition.memo.get(_WRITTEN)
        if written is None:
            # Kept: whoever makes a condition fail chooses how often.
            expressions = (condition.expression, *(one.expression for one in condition.variables))
            trees = (decode(one.serialize()) for one in expressions)
            written = condition.memo[_WRITTEN] = written_names(trees)
        return ConditionError(without_values(str(value.value()), written))
    return ConditionError(f"gives {value.type().name().lower()}, not {wanted}")


def _counting(facts: Facts) -> cel.Function:
    """Does not hold the facts: they hold it, and no collector finds a circle through the library,
    so that each call that was counted for would stay, with its arguments."""
    run, now_us = facts.run, facts.now_us

    def count(pattern: str, window: timedelta) -> int:
        return count_calls(run, pattern, window // _MICROSECOND, now_us)

    return cel.Function(COUNT, COUNT_TAKES, False, kept_by_nobody(count, 2), _TYPE.INT)
