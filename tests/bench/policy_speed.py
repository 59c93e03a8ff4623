"""µs per decision, in process: 1 to 10,000 rules of each kind, beside peers that judge the same.

All engines of one size are asked the same calls in turns, a slice each, so that what the machine
does meanwhile meets all of them; a figure is the median of the rounds. That all of them give the
same answers is asserted first, with allows and denies among them.

`every_tool_us` is the sidecar's cost when each call goes to another tool of all there are: nothing
of its rule is at hand in the processor's caches then, whichever engine holds it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import policy_rules
from policy_engines import ENGINES, PEERS, Engine, answers
from policy_rules import KINDS, SHARED

SIDECAR = "sidecar"
EVERY_TOOL = "every_tool"
_AT_ONCE_MAX = 64


@dataclass(frozen=True)
class Effort:
    """How long and on how many rules. A peer that takes long to read its rules is left out above
    `peer_rules_max`."""

    rounds: int
    slice_s: float
    sizes: tuple[int, ...]
    peers: tuple[str, ...] = PEERS
    peer_rules_max: int = 10_000


#: What the benchmark of the whole takes, by its size: the sidecar alone.
ALONE = {
    "small": Effort(rounds=3, slice_s=0.003, sizes=(1, 1000), peers=()),
    "default": Effort(rounds=7, slice_s=0.05, sizes=(1, 100, 1000), peers=()),
    "large": Effort(rounds=15, slice_s=0.1, sizes=(1, 100, 1000), peers=()),
}


class _Turn:
    """One engine with its prepared calls; each slice goes on where the last ended."""

    def __init__(self, engine: Engine, calls: Sequence[policy_rules.Call]) -> None:
        self.engine = engine
        self.calls = [engine.prepared(call) for call in calls]
        self.rounds: list[float] = []
        self._next = 0

    def slice(self, seconds: float) -> None:
        """Asks for so long, one call at least; notes µs per call."""
        allows, calls, at = self.engine.allows, self.calls, self._next
        count, at_once, taken = 0, 1, 0.0
        started = time.perf_counter()
        while taken < seconds:
            for _ in range(at_once):
                allows(calls[at])
                at = at + 1 if at + 1 < len(calls) else 0
            count += at_once
            taken = time.perf_counter() - started
            # Few looks at the clock, but none too late.
            at_once = max(1, min(_AT_ONCE_MAX, int(count * (seconds / taken - 1) / 2)))
        self._next = at
        self.rounds.append(taken / count * 1e6)


def _take_turns(turns: Collection[_Turn], effort: Effort) -> None:
    gc.collect()
    gc.freeze()
    try:
        for _ in range(effort.rounds):
            for turn in turns:
                turn.slice(effort.slice_s)
    finally:
        gc.unfreeze()


def measure(kind: str, rules: int, effort: Effort) -> dict[str, float]:
    """µs per decision of each engine."""
    calls = policy_rules.calls(kind, rules)
    named = [SIDECAR]
    if kind in SHARED and rules <= effort.peer_rules_max:
        named += effort.peers
    turns = {name: _Turn(ENGINES[name](kind, rules), calls) for name in named}
    said = {name: answers(turn.engine, turn.calls) for name, turn in turns.items()}
    for name, given in said.items():
        if given != said[SIDECAR]:
            raise AssertionError(f"{name} does not say the same of {kind} rules")
    if set(said[SIDECAR]) != {True, False}:
        raise AssertionError(f"calls on {kind} rules are all judged alike")
    everywhere = policy_rules.calls(kind, rules, every_tool=True)
    turns[EVERY_TOOL] = _Turn(turns[SIDECAR].engine, everywhere)
    answers(turns[EVERY_TOOL].engine, turns[EVERY_TOOL].calls)  # what is worked out but once
    _take_turns(turns.values(), effort)
    return {f"{name}_us": round(median(turn.rounds), 2) for name, turn in turns.items()}


def by_size(kind: str, effort: Effort) -> dict[int, float]:
    """The sidecar's µs per decision by number of rules: all sizes take turns, since peers of
    thousands of rules take minutes to get ready, in which a machine's pace may be another."""
    turns = {
        rules: _Turn(ENGINES[SIDECAR](kind, rules), policy_rules.calls(kind, rules))
        for rules in effort.sizes
    }
    for turn in turns.values():
        answers(turn.engine, turn.calls)  # what is worked out but once
    _take_turns(turns.values(), effort)
    return {rules: round(median(turn.rounds), 2) for rules, turn in turns.items()}


def by_kind(effort: Effort) -> dict[str, Any]:
    """All kinds and sizes, with what the lines are held against."""
    figures: dict[str, Any] = {"peers": list(effort.peers)}
    for kind in KINDS:
        own = by_size(kind, effort)
        sizes = {rules: measure(kind, rules, effort) for rules in effort.sizes}
        figures[kind] = {str(rules): row for rules, row in sizes.items()}
        figures[kind]["side_by_side_us"] = {str(rules): us for rules, us in own.items()}
        figures[kind].update(_compared(sizes, own, effort))
    return figures


def _compared(
    sizes: dict[int, dict[str, float]], own: dict[int, float], effort: Effort
) -> dict[str, float]:
    one = own[min(own)]
    found = {"worst_us": max(own.values())}
    found |= {f"ratio_{rules}_to_1": round(us / one, 2) for rules, us in own.items() if rules > 1}
    for peer in effort.peers:
        ratios = [row[f"{peer}_us"] / row[f"{SIDECAR}_us"] for row in sizes.values()
                  if f"{peer}_us" in row]  # fmt: skip
        if ratios:
            found[f"least_times_{peer}"] = round(min(ratios), 1)
    return found


def run(effort: Effort) -> dict[str, Any]:
    """One line per size and kind, the sidecar alone."""
    figures: dict[str, Any] = {}
    names = {"structured": "", "plain": "_plain", "cel": "_cel", "pattern": "_pattern"}
    for rules in effort.sizes:
        for kind, suffix in names.items():
            us = measure(kind, rules, effort)[f"{SIDECAR}_us"]
            figures[f"decision_us_{rules}_rules{suffix}"] = us
    return figures
