"""Whether a condition may be evaluated on a call: as it is, on a meter, or not at all.

Knows: how large what it reads is, and how long it may take on that; that what the CEL library
cannot read, and what takes it too long, is an error before it begins. What is worked out for a
size is kept, and sizes are rounded up, so that there is little to work out.
Must not know: how an evaluation goes on, which rule asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.policy.cel_costs import COST_MAX_NS, Fare, fills, loops_of
from sidecar.policy.cel_extents import Extent, extent_of, rounded_up
from sidecar.policy.cel_metering import with_meter
from sidecar.policy.cel_text_costs import TEXT_COSTS, cost_of_texts, texts_of
from sidecar.policy.cel_tree import Term
from sidecar.policy.facts import Facts, fact_or_argument, measured
from sidecar.policy.sizes import Unreadable

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition

#: Answers kept for each condition, by how large its inputs are.
_ANSWERS_MAX: Final = 512
_METERED: Final = "metered"


_Answer = TypeVar("_Answer")


class ConditionError(Exception):
    """A condition that gave neither true nor false; the message is for operators."""


class OutOfReach(ConditionError):
    """What the call holds is more than a condition may take, or nothing that it can be given. So
    whoever makes the call chooses that it cannot be told."""


def admitted(condition: Condition, facts: Facts) -> Metered | None:
    """None if it may simply be evaluated. Refuses what the library cannot read, and what takes too
    long whatever it holds: it cannot be stopped, and every other call would wait."""
    usual = condition.usual
    if condition.is_everyday and usual is not None:
        quick = facts.quick_size
        if quick is not None and quick.values <= usual[0] and quick.bytes <= usual[1]:
            return None
    values = total = 0
    for name in condition.inputs:
        try:
            size = measured(facts, name)
        except Unreadable as error:
            raise OutOfReach(str(error)) from None
        values += size.values
        total += size.bytes
    if usual is not None and values <= usual[0] and total <= usual[1]:
        if not condition.needles:
            return None
        cuts = (cut for one in inputs_of(condition, facts).values() for cut in one.cuts)
        if all(count <= usual[2] for count in cuts):
            return None
    metered: Metered | None = condition.memo.get(_METERED)
    if metered is None:
        metered = condition.memo[_METERED] = Metered(condition)
    if metered.has_loops:
        return metered
    if metered.ns(inputs_of(condition, facts)) > COST_MAX_NS:
        raise OutOfReach(
            f"takes too long on what this call holds: {values} values, {total} bytes of text"
        )
    return None


def inputs_of(condition: Condition, facts: Facts) -> dict[str, Extent]:
    """What a condition reads of a call, measured for what it splits at."""
    needles = condition.needles
    inputs: dict[str, Extent] = {}
    for name in condition.inputs:
        key = (name, needles)
        found = facts.extents.get(key)
        if found is None:
            value = fact_or_argument(facts, name)
            if needles:
                extent = extent_of(value, needles)
            else:
                items = len(value) if isinstance(value, list | dict) else 0
                extent = Extent(*measured(facts, name), items)
            found = facts.extents[key] = rounded_up(extent)
        inputs[name] = found
    return inputs


class Metered:
    """A condition with its variables, written for a meter, and what the meter must know of them.
    Sizes are rounded up, so that there are few answers to work out."""

    def __init__(self, condition: Condition) -> None:
        self._estimate = condition.estimate()
        self._known: dict[tuple[object, ...], Any] = {}
        self.has_loops = self._estimate.has_loops
        self.needles = self._estimate.needles
        self.steps = self._estimate.steps
        environment = condition.scope.environment
        several = [*(one.expression for one in condition.variables), condition.expression]
        self.expressions = several
        self.metered_expressions = [
            _with_meter(environment, one, step.tree)
            for one, step in zip(several, self.steps, strict=True)
        ]
        self.texts = [[cost_of_texts(one) for one in texts_of(step.tree)] for step in self.steps]

    def ns(self, inputs: Mapping[str, Extent]) -> float:
        """What all steps cost together."""
        return self._answer((), inputs, {}, lambda: self._estimate.ns(inputs))

    def bound_ns(
        self, number: int, inputs: Mapping[str, Extent], variables: Mapping[str, Extent]
    ) -> float:
        """What one step costs at most."""
        step = self.steps[number]
        return self._answer(
            (number,), inputs, variables, lambda: self._estimate.bound(step, inputs, variables).ns
        )

    def fare(
        self, number: int, inputs: Mapping[str, Extent], variables: Mapping[str, Extent]
    ) -> Fare:
        """What one step costs on a meter."""
        step = self.steps[number]
        return self._answer(
            (number, _METERED), inputs, variables,
            lambda: self._estimate.fare(step, inputs, variables),
        )  # fmt: skip

    def _answer(
        self,
        question: tuple[object, ...],
        inputs: Mapping[str, Extent],
        variables: Mapping[str, Extent],
        answer: Callable[[], _Answer],
    ) -> _Answer:
        key = (*question, *inputs.values(), *variables.items())
        if key not in self._known:
            if len(self._known) >= _ANSWERS_MAX:
                self._known.clear()
            self._known[key] = answer()
        found: _Answer = self._known[key]
        return found


def _with_meter(environment: Any, expression: Any, tree: Term) -> Any:
    loops = loops_of(tree)
    if not loops and not texts_of(tree):
        return expression
    filling = {number for number, loop in enumerate(loops) if fills(loop) is not None}
    return environment.deserialize(with_meter(expression.serialize(), filling, TEXT_COSTS))
