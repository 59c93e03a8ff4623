"""Tests and backtests count as many alerts as are raised where hits become rows."""

from __future__ import annotations

import pytest
from soc_setup import HOUR_US, START_US, compiled, event

from sidecar.soc.correlation import ALERTS_OF_AGENT_MAX, correlate
from sidecar.soc.engine import Engine
from sidecar.soc.joining import Alerts
from sidecar.soc.levels import Level

EACH = compiled("detection: each\nseverity: low\nquiet: 1h\n")


@pytest.mark.parametrize(
    ("gaps_us", "expected"),
    [
        ((0,), 1),
        ((0, 1, 1), 1),
        ((0, HOUR_US - 1), 1),
        ((0, HOUR_US), 2),
        ((0, HOUR_US // 2, HOUR_US // 2), 2),
        ((0, HOUR_US // 2, HOUR_US // 2 - 1, HOUR_US), 2),
    ],
)
def test_alerts_are_counted_as_they_are_raised(gaps_us: tuple[int, ...], expected: int) -> None:
    engine, alerts, hits, at_us = Engine(EACH, "acme"), Alerts(), [], START_US
    for seq, gap_us in enumerate(gaps_us, 1):
        at_us += gap_us
        for agent in ("coder", "helper"):
            hits += engine.see(event(2 * seq + (agent == "helper"), at_us, agent=agent))
    opened = [alerts.take(hit) for hit in hits]
    raised = correlate("acme", hits, [], [], Level.LOG, at_us).raised
    assert [one.hit for one in raised] == alerts.opened
    assert len(raised) == opened.count(True) == 2 * expected


BY_TOOL = compiled("detection: each\nseverity: high\nby: [agent, tool]\nquiet: 12h\n")


def test_whoever_chooses_the_subject_makes_so_many_alerts_an_hour_and_no_more() -> None:
    engine, alerts, hits = Engine(BY_TOOL, "acme"), Alerts(), []
    for seq in range(1, 4 * ALERTS_OF_AGENT_MAX):
        at_us = START_US + seq * HOUR_US // (2 * ALERTS_OF_AGENT_MAX)
        hits += engine.see(event(2 * seq, at_us, tool=f"mail/t{seq}"))
    hits += engine.see(event(999_999, at_us, agent="helper"))
    opened = [alerts.take(hit) for hit in hits]
    found = correlate("acme", hits, [], [], Level.LOG, at_us)
    assert [one.hit for one in found.raised] == alerts.opened
    assert opened.count(True) == 2 * ALERTS_OF_AGENT_MAX + 1, "some each hour, and the other's"
    assert found.joined == opened.count(False)
    rows = [row for row in found.alerts if row.agent_id == "coder"]
    assert sum(row.hits for row in rows) == len(hits) - 1, "and every hit counts"
    assert [row.hits > 1 for row in sorted(rows)].count(True) == 2
