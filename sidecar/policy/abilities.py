"""What a rule needs that this sidecar may lack: a rule that would silently not protect is refused.

Knows: which parts of a rule rest on the state of runs, and which on a store that keeps limits.
Must not know: who keeps them, how a rule is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.policy.rules import RuleDraft

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition


@dataclass(frozen=True, slots=True)
class Abilities:
    """Whether the state of runs is kept from call to call, and whether the store keeps sums and
    shared limits. Flip a default when the sidecar does; the loader then takes such rules."""

    keeps_runs: bool = True
    store_keeps_limits: bool = True


ABILITIES: Final = Abilities()
#: All there is to rest on: what tests of policies suppose, which keep runs and sums themselves.
WHOLE: Final = Abilities(keeps_runs=True, store_keeps_limits=True)


@dataclass(frozen=True, slots=True)
class Lack:
    """Something a rule needs and does not get: the key of the rule it stands under, and where in
    the text of that key (None: nowhere in particular)."""

    key: str
    offset: int | None
    what: str


def lacks(
    draft: RuleDraft,
    condition: Condition | None,
    sums: Iterable[Condition | None],
    has: Abilities,
) -> Iterator[Lack]:
    """All that keeps a rule from being carried out; `condition` and `sums` are its own."""
    if not has.keeps_runs:
        yield from _run_lacks(draft, condition)
        for total in sums:
            for name in sorted(total.run if total is not None else ()):
                yield Lack("limits", None, f"sum: {name}")
    if not has.store_keeps_limits:
        for limit in draft.limits:
            if limit.sum is not None:
                yield Lack("limits", None, "`sum` in limits")
            if limit.is_shared:
                yield Lack("limits", None, "`shared: true` in limits")


def _run_lacks(draft: RuleDraft, condition: Condition | None) -> Iterator[Lack]:
    if draft.run is not None:
        yield Lack("run", None, "`run`")
    if condition is not None:
        for name in sorted(condition.run):
            offset = condition.reading.run.get(name)
            yield Lack("when", offset or 0, f"when: {name}")
    if draft.reason is not None:
        for name in draft.reason.run_names:
            yield Lack("reason", None, f"reason: {{{name}}}")
    for limit in draft.limits:
        if "run" in limit.per:
            yield Lack("limits", None, "`per: run` in limits")
