"""Many sets, many calls, both sides asked: what differed, and what the run went through.

Knows: how sets are numbered, so that any of them can be made again. Must not know: either side.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from dataclasses import dataclass, field

from differential_compare import Pair, compare
from differential_coverage import Coverage
from differential_product import Refused
from differential_shrink import reproduction, shrunk
from generated_calls import Calls
from generated_sets import Sets
from twin_world import World
from written_yaml import file_name, rule_at

CALLS_PER_SET = 200
#: Of a hundred sets, or rules, so many may be refused; more, and the generator is at fault. The
#: first few say nothing.
REFUSED_MAX = 5
REFUSED_FREE = 10
#: So often rules that do not load are taken out of a set.
MENDINGS = 4
#: So many differences are written out.
SHOWN = 5


@dataclass
class Report:
    """Sums over the run; `violations` is empty in a good one. `refusals` are the loader's words
    about rules that were taken out, and about sets that could not be mended so."""

    seed: int
    sets: int = 0
    cases: int = 0
    rules: int = 0
    refused_rules: int = 0
    refused_sets: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    coverage: Coverage = field(default_factory=Coverage)
    differing: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def refuses_too_much(self) -> bool:
        """Whether the generator makes more of what does not load than it may."""
        if self.refused_sets + self.refused_rules <= REFUSED_FREE:
            return False
        of_sets = self.refused_sets * 100 > REFUSED_MAX * (self.sets + self.refused_sets)
        return of_sets or self.refused_rules * 100 > REFUSED_MAX * self.rules


def run(
    cases: int, seed: int, *, calls_per_set: int = CALLS_PER_SET, stops: bool = False
) -> Report:
    """So many cases of a seed; with `stops` only until something differs, told as it is."""
    report = Report(seed)
    number = 0
    while report.cases < cases and not (stops and report.violations):
        _one_set(report, number, min(calls_per_set, cases - report.cases), stops=stops)
        number += 1
        if report.refuses_too_much:
            report.violations.append(
                f"{report.refused_sets} of {number} sets and {report.refused_rules} of "
                f"{report.rules} rules do not load: {report.refusals.most_common(5)}"
            )
            break
    return report


def world_of(seed: int, number: int) -> tuple[random.Random, World]:
    """The set of a number, and the source of its calls."""
    chance = random.Random(f"{seed}:{number}")
    return chance, Sets(chance).world()


def _loaded(report: Report, world: World) -> Pair | None:
    """The set on both sides, without rules that do not load; None if that is not enough."""
    report.rules += sum(len(policy["rules"]) for policy in world.policies)
    for _ in range(MENDINGS):
        try:
            return Pair.of(world)
        except Refused as refused:
            report.refusals.update(one.message for one in refused.errors)
            named: set[tuple[str, int]] = set()
            for one in refused.errors:
                for policy in world.policies:
                    number = rule_at(policy, one.position.line)
                    if one.position.source == file_name(policy) and number is not None:
                        named.add((policy["policy"], number))
            if not named:
                break
            report.refused_rules += len(named)
            world = _without(world, named)
    report.refused_sets += 1
    return None


def _without(world: World, named: set[tuple[str, int]]) -> World:
    policies = [
        {
            **policy,
            "rules": [
                rule
                for number, rule in enumerate(policy["rules"])
                if (policy["policy"], number) not in named
            ],
        }
        for policy in world.policies
    ]
    return dataclasses.replace(world, policies=policies)


def _one_set(report: Report, number: int, calls: int, *, stops: bool) -> None:
    chance, made = world_of(report.seed, number)
    pair = _loaded(report, made)
    if pair is None:
        return
    world = pair.world
    report.sets += 1
    report.coverage.begin(pair)
    making = Calls(chance, world)
    for place in range(calls):
        call = making.call()
        compared = compare(pair, call)
        report.cases += 1
        report.coverage.add(pair, call, compared)
        if compared.differences:
            report.differing.update(compared.differences.keys())
            if len(report.violations) < SHOWN:
                where = f"seed {report.seed}, set {number}, call {place}"
                found = (world, call, compared)
                if not stops:
                    found = shrunk(*found)
                report.violations.append(reproduction(where, *found))
            if stops:
                return
