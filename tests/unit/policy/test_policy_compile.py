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
BROKEN = [case for case in CASES if case.group != "warnings"]
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_d3_a_broken_file_is_refused_with_every_problem_in_place(case: CompileCase) -> None:
    given = shown(said_of(case))
    if os.environ.get("UPDATE_CASES"):
        case.keep(given)
        return
    assert given == case.problems


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_d2_d3_no_broken_file_ever_allows_anything(case: CompileCase) -> None:
    if case.group != TEST_FILES:
        assert loaded(case).policy_set is None
    assert errors_only(said_of(case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_problem_stands_where_there_is_something(case: CompileCase) -> None:
    data = (
        case.sources
        if case.group != TEST_FILES
        else {name: part.data for name, part in case.parts.items()}
    )
    for problem in said_of(case):
        lines = data[problem.position.source].decode("utf-8", "replace").split("\n")
        assert 1 <= problem.position.line <= len(lines), str(problem)
        assert 1 <= problem.position.column <= len(lines[problem.position.line - 1]) + 1


def test_the_good_files_allow_everything() -> None:
    """The control: it is the broken file that keeps the set away."""
    found = load(*GOOD.values(), names=tuple(GOOD), upstreams=UPSTREAMS, default="observe")
    assert found.problems == [] and found.policy_set is not None
    for tool in ("github/get_repo", "github/merge", "files/read", "files/mcp:tasks/get"):
        assert judge(found.policy_set, tool).effect is Effect.ALLOW


def test_there_are_many_cases() -> None:
    assert len(BROKEN) >= 220
