"""`aegis-sidecar policy test PATH…`: runs the cases that stand beside the policies."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from sidecar.cli.policy_sources import (
    NothingChosen,
    configured,
    count_text,
    kinds_in,
    route_for,
    show_problems,
)
from sidecar.cli.soc_results import DetectionOutcome
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sidecar.policy.case_file import CaseFile
    from sidecar.policy.case_runner import CaseResult, Route
    from sidecar.policy.case_set import CaseSet, Context
    from sidecar.policy.coverage import Coverage
    from sidecar.policy.rule import Rule
    from sidecar.policy_reading import Reading
    from sidecar.problems import Position, Problem

NAME = "test"
HELP = "run the test files beside policies; exit 0: all pass, 1: some fail, 2: unusable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to test, and how much of it must be."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="folders, pack:NAME, or single test files"
    )
    parser.add_argument(
        "--coverage",
        type=_percent,
        metavar="N",
        help="exit 1 unless N %% of the rules have a case that matches and one that does not",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="take from this sidecar.yaml which of its upstreams only ask (`kind: authorize`), and "
        "which paths they take (`encoded_slash`, `path_parameters`); without it none does",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 100")
    return number


def run(args: argparse.Namespace) -> int:
    """0 all passed, 1 a case failed or too few rules are covered, 2 unusable or nothing to test."""
    from pathlib import Path

    from sidecar.policy_reading import take_reading

    try:
        root = configured(args.config) if args.config else None
    except NothingChosen as error:
        show_problems(error.problems)
        return 2
    outcome = Outcome(route_for(root), kinds_in(root))
    for path in args.paths:
        entry, only = folder_of(path, Path.cwd())
        outcome.add(take_reading([entry], Path.cwd()), only)
    show_problems(outcome.problems)
    if outcome.has_errors:
        print(count_text(outcome.problems), file=sys.stderr)
        return 2
    if not (outcome.results or outcome.detections.results):
        where = ", ".join(args.paths)
        print(f"there is no test in {where}: test files begin with `test:`", file=sys.stderr)
        return 2
    is_covered = args.coverage is None or outcome.percent >= args.coverage
    if args.json:
        print(json.dumps(outcome.data(), ensure_ascii=False))
        return 0 if is_covered and not outcome.failed else 1
    for result, places in outcome.results:
        if not result.passed:
            show_failure(result, places)
    outcome.detections.show_failures()
    if args.coverage is not None:
        outcome.show_lacking()
    if outcome.results or not outcome.detections.results:
        print(outcome.summary())
    if outcome.detections.results:
        print(outcome.detections.summary())
    if not is_covered:
        print(f"coverage is below {args.coverage:g} %", file=sys.stderr)
    return 0 if is_covered and not outcome.failed else 1


def folder_of(path: str, base: Path) -> tuple[str, str | None]:
    """The entry to read, and the one test file in it that is meant (None: all of them). A test
    file is run with the policies and catalogues of its folder."""
    from sidecar.policy_reading import PACK_PREFIX

    if path.startswith(PACK_PREFIX) or not (base / path).is_file():
        return path, None
    file = base / path
    folder = file.parent
    shown = str(folder.relative_to(base)) if folder.is_relative_to(base) else str(folder)
    return shown, file.name if shown == "." else f"{shown}/{file.name}"


class Outcome:
    """What came of all tests: problems, results with the places of rules and tools, coverage; and
    what came of those of detections that stand among them."""

    def __init__(self, route: Route, kinds: Mapping[str, str]) -> None:
        """`route` reads requests that cases describe; `kinds` are those of upstreams, as far as
        they are known."""
        self._route, self._kinds = route, kinds
        self.detections = DetectionOutcome()
        self.problems: list[Problem] = []
        self.results: list[tuple[CaseResult, Mapping[str, Position]]] = []
        self._coverages: list[Coverage] = []
        self._policies: dict[int, set[str]] = {}

    @property
    def has_errors(self) -> bool:
        """Whether something could not be used."""
        return any(not problem.is_warning for problem in self.problems)

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return sum(not one.passed for one, _ in self.results) + self.detections.failed

    @property
    def percent(self) -> float:
        """Coverage over all rules."""
        rules = sum(len(one.by_rule) for one in self._coverages)
        lacking = sum(len(one.lacking) for one in self._coverages)
        return 100.0 * (rules - lacking) / rules if rules else 100.0

    def add(self, reading: Reading, only: str | None) -> None:
        """Runs the tests of one reading, or those of one of its files, unless it has errors."""
        from sidecar.policy.case_set import case_set, read_context
        from sidecar.policy.coverage import Coverage
        from sidecar.policy.fields import Problems

        problems = Problems()
        problems.take(reading.problems)
        context = read_context(reading.sources, reading.read_file, problems)
        context.kinds = self._kinds
        tests = self.detections.read(reading, problems)
        meant = display_name(reading, only)
        files = [one for one in context.tests if meant is None or one.position.source == meant]
        is_of_detections = any(one.position.source == meant for one in tests.files)
        if not (meant is None or files or is_of_detections or problems.error_count):
            from sidecar.problems import Position

            problems.error(Position(str(only), 1, 1), "this is no test file", "begin with `test:`")
        sets = [case_set(context, file, problems) for file in files]
        if not problems.error_count:
            self.detections.run(tests, problems, meant)
        self.problems = sorted({*self.problems, *problems.found})
        if problems.error_count:
            return
        coverage = Coverage(_rules(context, files if meant is not None else None))
        self._coverages.append(coverage)
        for cases in sets:
            if cases is not None:
                self._run(cases, coverage, context.places)

    def _run(self, cases: CaseSet, coverage: Coverage, places: Mapping[str, Position]) -> None:
        from sidecar.policy.case_runner import run_case
        from sidecar.problems import Problem

        for case in cases.file.cases:
            result = run_case(cases, case, self._route)
            coverage.note(result.judged)
            self.results.append((result, places))
            failed = result.unstated_error
            if failed is not None:
                message = f'"{case.name}" passes by an error in {failed.rule_id}: {failed.error}'
                hint = (
                    "say `code: condition_error` if that is meant, else state what the rule reads"
                )
                self.problems.append(Problem(case.position, message, hint, is_warning=True))
            self._policies[id(case)] = {policy for policy, _ in cases.file.policies}

    def policies_of(self, result: CaseResult) -> set[str]:
        """The policies that a case is a test of."""
        return self._policies[id(result.case)]

    def show_lacking(self) -> None:
        """Every rule of which too little is shown, and why."""
        from sidecar.policy.coverage import coverage_line

        lacking = [one for coverage in self._coverages for one in coverage.lacking]
        width = max((len(one.rule.rule_id) for one in lacking), default=0)
        for one in lacking:
            print(coverage_line(one, width))

    def data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        lacking = [one for coverage in self._coverages for one in coverage.lacking]
        return {
            "cases": len(self.results),
            "failed": self.failed - self.detections.failed,
            "failures": [_failure_data(one) for one, _ in self.results if not one.passed],
            "coverage": {
                "rules": sum(len(one.by_rule) for one in self._coverages),
                "percent": round(self.percent, 1),
                "lacking": [
                    {
                        "rule": one.rule.rule_id,
                        "matched": one.matched,
                        "not_matched": one.missed,
                        "failed": one.failed,
                        "why": one.lacks,
                    }
                    for one in lacking
                ],
            },
            **({"detections": self.detections.data()} if self.detections.results else {}),
        }

    def summary(self) -> str:
        """One line."""
        count, failed = len(self.results), self.failed - self.detections.failed
        files = len({result.case.position.source for result, _ in self.results})
        rules = sum(len(one.by_rule) for one in self._coverages)
        lacking = sum(len(one.lacking) for one in self._coverages)
        passed = f"{counted(count, 'case')} passed" if not failed else (
            f"{failed} of {counted(count, 'case')} FAILED"
        )  # fmt: skip
        return (
            f"{passed}, {counted(files, 'file')}; {rules - lacking} of "
            f"{counted(rules, 'rule')} covered ({self.percent:.0f} %)"
        )


def _failure_data(result: CaseResult) -> dict[str, Any]:
    return {
        "case": result.case.name,
        "place": str(result.case.position),
        "wrong": [
            {"what": what, "expected": expected, "came": came}
            for what, expected, came in result.wrong
        ],
    }


def display_name(reading: Reading, only: str | None) -> str | None:
    """The name under which the one file that is meant was read."""
    if only is None:
        return None
    tail = only.rpartition("/")[2]
    names = [name for name in reading.paths if name == only or name.endswith(f"/{tail}")]
    exact = [name for name in names if name == only]
    return (exact or names or [only])[0]


def _rules(context: Context, files: Sequence[CaseFile] | None) -> list[Rule]:
    """The rules that are to be covered: all, or those of the policies that these files name."""
    every = [one.rule for one in context.rules]
    if files is None:
        return every
    named = {policy for file in files for policy, _ in file.policies}
    return [rule for rule in every if rule.order[0] in named]


def show_failure(result: CaseResult, places: Mapping[str, Position]) -> None:
    """What was expected, what came, and why."""
    from sidecar.policy.explain_text import explanation_lines

    case = result.case
    print(f"{case.position}: FAILED: {case.name}")
    for what, expected, came in result.wrong:
        print(f"    {what}: expected {expected}")
        print(f"    {' ' * len(what)}  came     {came}")
    if result.refused is not None:
        print(f"    hint: {result.refused.kind.next_step}")
    if result.judged:
        for line in explanation_lines(result.judged[-1], places):
            print(f"    {line}")
