"""What an engine keeps apart, and from where it counts: runs, what people closed, what is new."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from soc_setup import HOUR_US, MINUTE_US, START_US, compiled, event, tried

from sidecar.soc.engine import Engine
from sidecar.soc.model import Event

COUNTING = "detection: counting\nseverity: high\nwhere: {effect: deny}\nat_least: 3\nwithin: 60s\n"
DIFFERENT = "detection: different\nseverity: low\ndistinct: tool.name\nat_least: 3\nwithin: 60s\n"
BY_RUN = "detection: r\nseverity: low\nby: run\nat_least: 2\nwithin: 60s\n"


def of_run(seq: int, agent: str, run: str, named: str = "") -> Event:
    """An event of a run that something trusted keeps apart, whatever its caller names it."""
    made = event(seq, START_US, agent=agent, run=named or run)
    recorded: Any = SimpleNamespace(of_run=run)
    return replace(made, call=lambda: recorded)


def test_a_run_is_its_agents() -> None:
    engine = Engine(compiled(BY_RUN), "acme")
    for seq, (agent, run) in enumerate([("a", "1"), ("b", "1"), ("a", "2"), ("b", "")], 1):
        assert engine.see(of_run(seq, agent, run)) == ()
    hits = engine.see(of_run(9, "a", "1"))
    assert [hit.subject for hit in hits] == [("a/1",)]


def test_what_callers_name_their_runs_keeps_nothing_apart() -> None:
    engine = Engine(compiled(BY_RUN), "acme")
    assert engine.see(of_run(1, "a", "", named="r1")) == ()
    hits = engine.see(of_run(2, "a", "", named="r2"))
    assert [(hit.subject, hit.run) for hit in hits] == [(("a",), "r2")]
    engine = Engine(compiled(BY_RUN), "acme")
    refused_unread = [event(seq, START_US, agent="a", run=f"r{seq}") for seq in (1, 2)]
    assert [len(engine.see(one)) for one in refused_unread] == [0, 1]


def test_what_people_closed_is_counted_from_there() -> None:
    engine = Engine(compiled(COUNTING.replace("60s", "6h")), "acme")

    def storm(first: int, count: int, after_us: int) -> list[int]:
        events = (event(seq, START_US + after_us + seq) for seq in range(first, first + count))
        return [hit.seq for one in events for hit in engine.see(one)]

    assert storm(1, 50, 0) == [3], "what lasts is found once in the window"
    engine.begin_anew("counting", ("other",), START_US + 3, START_US + HOUR_US)
    engine.begin_anew("counting", ("coder",), START_US - 7 * HOUR_US, START_US + HOUR_US)
    engine.begin_anew("gone", ("coder",), START_US + 3, START_US + HOUR_US)
    assert storm(51, 50, HOUR_US) == [], "closed was another, or what is no longer in the window"
    engine.begin_anew("counting", ("coder",), START_US + 3, START_US + 2 * HOUR_US)
    assert storm(101, 2, 2 * HOUR_US) == [], "what was closed does not count again"
    assert storm(103, 50, 2 * HOUR_US) == [], "who closes may be a program that does so at once"
    assert storm(153, 50, 2 * HOUR_US + MINUTE_US) == [153]
    assert engine.kept == 102


def test_what_lasts_is_found_again_by_a_detection_that_had_not_looked() -> None:
    engine = Engine(compiled(COUNTING, DIFFERENT), "acme")
    seen = [engine.see(event(seq, START_US + seq)) for seq in range(1, 9)]
    assert sum(map(len, seen)) == 1
    engine.find_again(["different"])
    assert engine.see(event(9, START_US + 9)) == (), "another's"
    engine.find_again(["counting"])
    assert [one.detection for one in engine.see(event(10, START_US + 10))] == ["counting"]
    assert engine.see(event(11, START_US + 11)) == ()


@pytest.mark.parametrize(("run", "expect"), [("{id: one}", 1), ("{id: other}", 0), ("{}", 0)])
def test_a_case_names_a_run_that_is_kept_apart(run: str, expect: int) -> None:
    case = (
        "test: r\ncases:\n  - name: a\n    events:\n"
        "      - {effect: deny, run: {id: one}, call: crm/get}\n"
        f"      - {{effect: deny, run: {run}, call: crm/get}}\n    expect: {expect}\n"
    )
    tests, problems = tried({"r.yaml": BY_RUN, "r_test.yaml": case})
    assert problems == [] and [one.passed for one in tests.results] == [True]
