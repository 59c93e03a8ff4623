"""The tests that stand beside policies, judged by the very set they came with, within bounds.

Knows: that the tests of a pack see what is in the pack, as where it was written, and all other
tests every policy of the set and every catalogue that is not a pack's; that a test that cannot be
used, or is not through in time, says nothing good of the set.
Must not know: files on disk, when a set is tested, what becomes of one that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sidecar.policy.case_runner import CaseResult, Route, run_case
from sidecar.policy.case_set import CaseSet, Context, case_set, tests_of
from sidecar.policy.catalogue_file import CatalogueFile
from sidecar.policy.fields import Problems
from sidecar.policy.load import Files, Material
from sidecar.problems import Position, Problem, errors_only
from sidecar.yaml_reader import Node

_PACK: Final = "pack:"
#: Work without a rest, as long as a thread keeps its turn while others wait for it.
PIECE_NS: Final = 500_000


class OutOfTime(Exception):
    """The time for tests is over, or nobody waits for them any more."""


class Allowance:
    """What the tests of one set may take from now on: so many cases, so much time for all of them.
    `at` is the test under way, `done` how many are through."""

    def __init__(
        self,
        cases: int,
        time_s: float,
        monotonic_ns: Callable[[], int],
        rest: Callable[[], bool] = lambda: False,
    ) -> None:
        """`rest` is called after each piece of work, to let others have their turn; it gives True
        once nobody waits for the tests any more."""
        self.cases, self.time_s = cases, time_s
        self._monotonic_ns = monotonic_ns
        self._rest = rest
        self._rested_ns = monotonic_ns()
        self._until_ns = self._rested_ns + int(time_s * 1e9)
        self.at = Position("policies")
        self.done = 0

    def tick(self) -> None:
        """Comes before each call that is judged. Raises OutOfTime when it is over."""
        now_ns = self._monotonic_ns()
        if now_ns >= self._until_ns:
            raise OutOfTime
        if now_ns - self._rested_ns >= PIECE_NS:
            if self._rest():
                raise OutOfTime
            self._rested_ns = self._monotonic_ns()


def pack_of(source: str) -> str:
    """`pack:NAME` of what stands in a pack, "" of everything else."""
    return source.partition("/")[0] if source.startswith(_PACK) else ""


def cases_of(document: Node) -> int:
    """How many cases a test has, before any of them is read."""
    listed = document.value.get("cases")
    return len(listed.value) if listed is not None and listed.is_list else 0


def catalogues_seen_from(material: Material, pack: str) -> list[CatalogueFile]:
    """The catalogues that tests of a pack, or those of no pack, go by."""
    return [one for one in material.files.catalogues if pack_of(one.position.source) == pack]


def seen_from(material: Material, pack: str, tests: Sequence[Node], problems: Problems) -> Context:
    """What tests of a pack, or those of no pack, are judged by."""
    policies, rules = material.files.policies, material.rules
    if pack:
        policies = [one for one in policies if pack_of(one.position.source) == pack]
        rules = [one for one in rules if pack_of(one.draft.position.source) == pack]
    return Context(
        Files(catalogues_seen_from(material, pack), policies),
        rules,
        tests_of(tests, problems),
        {} if pack else material.kinds,
    )


def run_cases(
    material: Material,
    pack: str,
    tests: Sequence[Node],
    route: Route,
    allowance: Allowance,
    problems: Problems,
) -> None:
    """Runs the tests of a pack, or those of no pack. Notes every test that cannot be used; if there
    is none, every case that fails. Raises OutOfTime."""
    unusable = Problems()
    context = seen_from(material, pack, tests, unusable)
    sets = list(_sets(context, allowance, unusable))
    problems.take(errors_only(unusable.found))
    for cases in sets if not unusable.error_count else ():
        for case in cases.file.cases:
            allowance.at = case.position
            result = run_case(cases, case, route, is_explained=False, tick=allowance.tick)
            allowance.done += 1
            if not result.passed:
                problems.take([failed(case.position, case.name, _words(result))])


def _sets(context: Context, allowance: Allowance, problems: Problems) -> Iterator[CaseSet]:
    for file in context.tests:
        allowance.at = file.position
        allowance.tick()
        found = case_set(context, file, problems)
        if found is not None:
            yield found


def failed(position: Position, name: str, words: str) -> Problem:
    """A case that did not come out as it says."""
    source = position.source
    shown = pack_of(source) or source
    return Problem(
        position, f'the test "{name}" fails: {words}', f"aegis-sidecar policy test {shown}"
    )


def _words(result: CaseResult) -> str:
    return "; ".join(
        f"{what}: expected {wanted}, came {came}" for what, wanted, came in result.wrong
    )
