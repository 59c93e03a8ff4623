"""Every broken file of tests/cases/compile gives exactly its problems, and never a policy set.

`UPDATE_CASES=1` writes what is given; read the diff.
"""

from __future__ import annotations

import functools
import os

import pytest
from compile_cases import GOOD, UPSTREAMS, CompileCase, all_cases
from policy_setup import NOTHING, WHOLE, judge, load, shown

from sidecar.model import Effect
from sidecar.policy.case_set import case_set, read_context
from sidecar.policy.fields import Problems
from sidecar.policy.load import LoadedPolicies, Source
from sidecar.problems import Problem, errors_only

CASES = all_cases()
#: The group that loads, with something said of it.
WARNINGS = "warnings"
BROKEN = [case for case in CASES if case.group != WARNINGS]
#: Read by `policy test`; the loader passes them over.
TEST_FILES = "tests"
#: Loaded for a sidecar that keeps nothing from call to call.
WITHOUT_STORE = "sets/not-carried-out"


@functools.cache
def loaded(case: CompileCase) -> LoadedPolicies:
    """Everything together, under the default that refuses nothing."""
    return load(
        *case.sources.values(),
        names=tuple(case.sources),
        upstreams=UPSTREAMS,
        default="observe",
        beside=case.beside,
        has=NOTHING if case.name == WITHOUT_STORE else WHOLE,
    )


def said_of_tests(case: CompileCase) -> list[Problem]:
    """What `policy test` says of the files of a folder."""

    def no_file(source: str, path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    problems = Problems()
    sources = [Source(name, part.data) for name, part in case.parts.items()]
    context = read_context(sources, no_file, problems, WHOLE)
    for file in context.tests:
        case_set(context, file, problems)
    return sorted(set(problems.found))


def said_of(case: CompileCase) -> list[Problem]:
    return said_of_tests(case) if case.group == TEST_FILES else loaded(case).problems


def files_of(case: CompileCase) -> dict[str, bytes]:
    """Where a problem may stand."""
    if case.group == TEST_FILES:
        return {name: part.data for name, part in case.parts.items()}
    return case.sources


def stands_somewhere(problem: Problem, files: dict[str, bytes]) -> bool:
    at = problem.position
    lines = files[at.source].decode("utf-8", "replace").split("\n")
    return 1 <= at.line <= len(lines) and 1 <= at.column <= len(lines[at.line - 1]) + 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_d2_d3_a_broken_file_has_each_problem_in_place_and_allows_nothing(
    case: CompileCase,
) -> None:
    found = said_of(case)
    if os.environ.get("UPDATE_CASES"):
        case.keep(shown(found))
    else:
        assert shown(found) == case.problems
    files = files_of(case)
    assert [problem for problem in found if not stands_somewhere(problem, files)] == []
    assert bool(errors_only(found)) == (case.group != WARNINGS)
    if case.group != TEST_FILES:
        assert (loaded(case).policy_set is None) == (case.group != WARNINGS)


def test_the_good_files_allow_everything() -> None:
    """The control: it is the broken file that keeps the set away."""
    found = load(*GOOD.values(), names=tuple(GOOD), upstreams=UPSTREAMS, default="observe")
    assert found.problems == [] and found.policy_set is not None
    for tool in ("github/get_repo", "github/merge", "files/read", "files/mcp:tasks/get"):
        assert judge(found.policy_set, tool).effect is Effect.ALLOW


def test_there_are_many_cases() -> None:
    assert len(BROKEN) >= 220
