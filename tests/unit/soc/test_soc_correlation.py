"""Hits become alerts and incidents: by cases, and whatever comes in whatever order."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.soc import correlation
from sidecar.soc.correlation import (
    ALERTS_PER_INCIDENT_MAX,
    TOGETHER_US,
    Noticed,
    correlate,
    look_back_us,
)
from sidecar.soc.evidence import JOINED_MAX, RAISED_FIRST_MAX, RAISED_LAST_MAX, read_evidence
from sidecar.soc.incident_entries import Stamp, raised_entry
from sidecar.soc.levels import Level
from sidecar.soc.model import SEVERITIES, Evidence, Hit, Response, Severity
from storage.watch_rows import AlertRow, IncidentRow

MINUTE_US = 60_000_000
START_US = 1_790_000_000_000_000


def seen(seq: int, at_us: int) -> Evidence:
    return Evidence(seq, f"{seq:064x}", f"call-{seq}", at_us)


def hit(
    minute: float,
    detection: str = "deny-storm",
    severity: Severity = Severity.HIGH,
    *,
    agent: str = "coder",
    run: str = "r1",
    receipts: int = 3,
    quiet_us: int = 60 * MINUTE_US,
    subject: tuple[str, ...] | None = None,
) -> Hit:
    """At so many minutes; its receipts are a second apart, and numbered by time."""
    at_us = START_US + int(minute * MINUTE_US)
    seq = int(minute * 100) + 1_000
    evidence = tuple(
        seen(seq - back, at_us - back * 1_000_000) for back in reversed(range(receipts))
    )
    return Hit(
        detection, severity, "acme", (agent,) if subject is None else subject, agent, run,
        "mail/send", "mail", f"{agent}: {detection}", evidence, quiet_us,
        Response("freeze-agent", 3_600_000_000),
    )  # fmt: skip


class Kept:
    """A store of rows, which insists on versions."""

    def __init__(self) -> None:
        self.alerts: dict[str, AlertRow] = {}
        self.incidents: dict[str, IncidentRow] = {}
        self.told: list[Noticed] = []

    def take(self, *hits: Hit, level: Level = Level.NOTIFY) -> Noticed:
        since = look_back_us(hits)
        quiet = [one for one in self.alerts.values() if one.quiet_until_us > since]
        found = correlate("acme", hits, quiet, self.incidents.values(), level, 7)
        self.put(found)
        return found

    def put(self, found: Noticed) -> None:
        for alert in found.alerts:
            before = self.alerts.get(alert.alert_id)
            assert alert.version == (before.version if before else 0) + 1
            self.alerts[alert.alert_id] = alert
        for incident in found.incidents:
            standing = self.incidents.get(incident.incident_id)
            assert incident.version == (standing.version if standing else 0) + 1
            self.incidents[incident.incident_id] = incident
        self.told.append(found)


def shape(kept: Kept) -> list[tuple[Any, ...]]:
    """The alerts of each incident, and those of none, as words."""
    groups: dict[str, list[str]] = {}
    for alert in sorted(kept.alerts.values()):
        groups.setdefault(alert.incident_id, []).append(f"{alert.detection}:{alert.agent_id}")
    return sorted((bool(key), *names) for key, names in groups.items())


LOW, MEDIUM, HIGH = Severity.LOW, Severity.MEDIUM, Severity.HIGH

#: Hits by minute, and what comes of them: incidents with their alerts, and alerts of none.
CASES: dict[str, tuple[list[Hit], list[tuple[Any, ...]]]] = {
    "a high one opens": ([hit(0)], [(True, "deny-storm:coder")]),
    "a low one does not": ([hit(0, severity=LOW)], [(False, "deny-storm:coder")]),
    "the same twice is one": ([hit(0), hit(59)], [(True, "deny-storm:coder")]),
    "after its quiet another is raised, in the same incident": (
        [hit(0, quiet_us=5 * MINUTE_US), hit(6, quiet_us=5 * MINUTE_US)],
        [(True, "deny-storm:coder", "deny-storm:coder")],
    ),
    "an hour later another incident": (
        [hit(0, quiet_us=MINUTE_US), hit(61, quiet_us=MINUTE_US)],
        [(True, "deny-storm:coder"), (True, "deny-storm:coder")],
    ),
    "a low one joins": (
        [hit(0), hit(30, "runaway", LOW)], [(True, "deny-storm:coder", "runaway:coder")],
    ),
    "a low one before is taken along": (
        [hit(0, "runaway", LOW), hit(30)], [(True, "runaway:coder", "deny-storm:coder")],
    ),
    "a low one long before is not": (
        [hit(0, "runaway", LOW, quiet_us=9), hit(61)],
        [(False, "runaway:coder"), (True, "deny-storm:coder")],
    ),
    "two weak signs are a strong one": (
        [hit(0, "runaway", LOW), hit(30, "first-use", MEDIUM)],
        [(True, "runaway:coder", "first-use:coder")],
    ),
    "twice the same weak sign is not": (
        [hit(0, "runaway", LOW, quiet_us=9), hit(30, "runaway", LOW)],
        [(False, "runaway:coder", "runaway:coder")],
    ),
    "two weak signs far apart are not": (
        [hit(0, "runaway", LOW, quiet_us=9), hit(61, "first-use", LOW)],
        [(False, "runaway:coder", "first-use:coder")],
    ),
    "a weak sign that goes on meets another": (
        [hit(0, "runaway", LOW, quiet_us=10**11), hit(70, "first-use", LOW),
         hit(80, "runaway", LOW, quiet_us=10**11)],
        [(True, "runaway:coder", "first-use:coder")],
    ),
    "each agent has its own": (
        [hit(0), hit(1, agent="helper")], [(True, "deny-storm:coder"), (True, "deny-storm:helper")],
    ),
    "weak signs of two agents do not meet": (
        [hit(0, "runaway", LOW), hit(1, "first-use", LOW, agent="helper")],
        [(False, "runaway:coder", "first-use:helper")],
    ),
    "what no agent did is the tenant's": (
        [hit(0, "store-refusing", agent=""), hit(1, "chain-break", agent="")],
        [(True, "store-refusing:", "chain-break:")],
    ),
    "subjects are counted apart": (
        [hit(0, subject=("a",)), hit(1, subject=("b",))],
        [(True, "deny-storm:coder", "deny-storm:coder")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("is_at_once", [True, False])
def test_what_hits_come_to(case: tuple[list[Hit], list[Any]], is_at_once: bool) -> None:
    hits, expected = case
    kept = Kept()
    if is_at_once:
        kept.take(*reversed(hits))
    else:
        for one in hits:
            kept.take(one)
    assert shape(kept) == sorted(expected)


def test_an_alert_counts_what_joins_it_and_keeps_what_it_was_raised_for() -> None:
    kept = Kept()
    first = kept.take(hit(0, receipts=40)).opened_alerts[0]
    raised = read_evidence(first.evidence)
    assert len(raised.raised) == RAISED_FIRST_MAX + RAISED_LAST_MAX and raised.left_out == 8
    for minute in range(1, 50):
        assert not kept.take(hit(minute, severity=Severity.CRITICAL)).has_news
    (alert,) = kept.alerts.values()
    resting = read_evidence(alert.evidence)
    assert (alert.hits, alert.first_us, alert.severity) == (50, first.first_us, "critical")
    assert resting.raised == raised.raised and len(resting.joined) == JOINED_MAX
    assert resting.joined[-1].seq == hit(49).seq and resting.left_out > raised.left_out
    (incident,) = kept.incidents.values()
    assert (incident.severity, incident.alerts) == ("critical", 1)
    assert incident.last_us == hit(49).at_us


def test_an_alert_that_people_closed_takes_no_hit() -> None:
    kept = Kept()
    (first,) = kept.take(hit(0)).opened_alerts
    kept.alerts[first.alert_id] = first._replace(state="closed")
    again = kept.take(hit(1))
    assert again.opened_alerts and again.opened_alerts[0].incident_id == first.incident_id


@pytest.mark.parametrize(
    "fault", [{"evidence": "{}"}, {"evidence": "x"}, {"severity": "?"}, {"evidence": "[1]"}]
)
def test_a_row_that_cannot_be_read_takes_no_hit_and_stops_nothing(fault: dict[str, str]) -> None:
    kept = Kept()
    (first,) = kept.take(hit(0)).opened_alerts
    kept.alerts[first.alert_id] = first._replace(**fault)
    assert kept.take(hit(1)).opened_alerts


def test_an_incident_names_its_run_while_all_of_it_is_of_one() -> None:
    kept = Kept()
    kept.take(hit(0))
    kept.take(hit(1, "runaway"))
    assert [one.run_id for one in kept.incidents.values()] == ["r1"]
    kept.take(hit(2, "first-use", run="r2"))
    assert [one.run_id for one in kept.incidents.values()] == [""]


def test_a_full_incident_takes_no_more_and_another_opens() -> None:
    kept = Kept()
    names = [(f"s{number}",) for number in range(ALERTS_PER_INCIDENT_MAX + 1)]
    for number, subject in enumerate(names):
        kept.take(hit(number / 10, subject=subject))
    sizes = sorted(one.alerts for one in kept.incidents.values())
    assert sizes == [1, ALERTS_PER_INCIDENT_MAX]


def test_where_too_many_incidents_are_open_alerts_are_raised_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(correlation, "OPEN_INCIDENTS_MAX", 2)
    kept = Kept()
    for number in range(3):
        found = kept.take(hit(number, agent=f"agent-{number}"))
    assert (len(kept.incidents), found.withheld, len(found.raised)) == (2, 1, 1)
    assert found.has_news and found.raised[0].incident is None


def test_what_a_detection_would_do_is_noted_where_it_is_to_be_recommended() -> None:
    (alert,) = Kept().take(hit(0), level=Level.RECOMMEND).opened_alerts
    (note,) = json.loads(alert.notes)
    assert (note["actor"], note["did"], note["text"]) == (
        "detection:deny-storm", "recommend", "freeze-agent for 3600 s",
    )  # fmt: skip
    for level in (Level.LOG, Level.NOTIFY, Level.RESPOND):
        (alert,) = Kept().take(hit(0), level=level).opened_alerts
        assert alert.notes == "[]"


def test_what_is_anothers_is_refused() -> None:
    foreign = hit(0)
    with pytest.raises(ValueError, match="is 'acme''s, not 'rival''s"):
        correlate("rival", [foreign], [], [], Level.NOTIFY, 7)


HITS = st.lists(
    st.builds(
        hit,
        st.integers(0, 200),
        st.sampled_from(["deny-storm", "runaway", "first-use"]),
        st.sampled_from([LOW, HIGH, Severity.CRITICAL]),
        agent=st.sampled_from(["coder", "helper", ""]),
        run=st.sampled_from(["r1", "r2"]),
        receipts=st.integers(1, 40),
        quiet_us=st.sampled_from([0, 10 * MINUTE_US, 60 * MINUTE_US]),
    ),
    max_size=25,
    # Of one event a detection makes one hit of a subject.
    unique_by=lambda one: (one.seq, one.detection, one.subject),
)


@settings(max_examples=60, deadline=None)
@given(HITS, st.randoms(use_true_random=False), st.integers(0, 24))
def test_whatever_comes_is_counted_once_and_comes_out_the_same(
    hits: list[Hit], chance: random.Random, cut: int
) -> None:
    whole, shuffled = Kept(), list(hits)
    chance.shuffle(shuffled)
    whole.take(*shuffled)
    again = Kept()
    again.take(*hits)
    assert again.alerts == whole.alerts and again.incidents == whole.incidents, "order"
    by_time = sorted(hits, key=lambda one: (one.at_us, one.seq, one.detection, one.subject))
    parts = Kept()
    for part in (by_time[:cut], by_time[cut:]):
        parts.take(*part)
    for kept in (whole, parts):
        assert sum(one.hits for one in kept.alerts.values()) == len(hits)
        _check(kept)
    assert shape(parts) == shape(whole), "in one pass or in two"


def _check(kept: Kept) -> None:
    """What holds of all rows."""
    for incident in kept.incidents.values():
        own = [one for one in kept.alerts.values() if one.incident_id == incident.incident_id]
        assert own and incident.alerts == len(own) <= ALERTS_PER_INCIDENT_MAX
        assert {one.agent_id for one in own} == {incident.agent_id}
        assert SEVERITIES[incident.severity] == max(SEVERITIES[one.severity] for one in own)
        assert incident.last_us == max(one.last_us for one in own)
        runs = {one.run_id for one in own}
        assert incident.run_id == (runs.pop() if len(runs) == 1 else "")
    for alert in kept.alerts.values():
        assert alert.last_us - alert.first_us <= TOGETHER_US, "quiet ends"
        assert alert.incident_id in (*kept.incidents, "")
        assert alert.incident_id or SEVERITIES[alert.severity] < HIGH
        resting = read_evidence(alert.evidence)
        seqs = [one.seq for one in resting.raised]
        assert seqs == sorted(set(seqs)) and resting.raised[-1].at_us == alert.first_us
        assert len(resting.raised) <= RAISED_FIRST_MAX + RAISED_LAST_MAX
        assert len(resting.joined) <= JOINED_MAX


def test_the_entry_of_a_pass_commits_to_what_it_raises() -> None:
    kept = Kept()
    kept.take(hit(0, "runaway", LOW))
    found = kept.take(hit(1))
    entry = raised_entry("acme", found, Stamp("e1", b"s" * 16, 9))
    assert len(entry.puts) == 3 and entry.audit is not None and entry.facts is not None
    said = json.loads(entry.facts.arguments or "")
    (incident,) = kept.incidents
    assert said["after"]["incidents"] == [incident]
    assert said["after"]["linked"] == {found.linked[0]: incident}
    assert [one["detection"] for one in said["after"]["alerts"]] == ["deny-storm"]
    assert json.loads(entry.audit.after_state) == said["after"]
    assert entry.receipt.resource == entry.audit.subject == f"incident:{incident}"
