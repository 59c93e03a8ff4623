"""From news to rows of the outbox: whom, with which id, and what stands in the body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.soc.attempts import (
    ATTEMPTS_MAX,
    SINK_REST_CAP_S,
    again,
    backoff_s,
    delivered,
    failed,
    given_up,
    sink_rest_s,
    taken,
)
from sidecar.soc.deliveries import BODY_BYTES_MAX, Ids, Kind, Told, deliveries_of, event_id_of
from sidecar.soc.model import Severity

CASES = Path(__file__).parents[2] / "cases" / "sinks"
AT_US = 1_790_000_000_123_456
IDS = Ids("acme", "a1")
OPS, CHAT = Told("ops", Severity.HIGH), Told("chat", Severity.LOW)


def rows(severity: Severity = Severity.HIGH, **more: Any) -> Any:
    given = {"kind": Kind.ALERT_OPENED, "body": {"reason": "r"}, "ids": IDS, "at_us": AT_US, **more}
    return deliveries_of(severity=severity, sinks=[OPS, CHAT], **given)


@pytest.mark.parametrize(
    ("severity", "told"),
    [
        (Severity.INFO, []),
        (Severity.LOW, ["chat"]),
        (Severity.MEDIUM, ["chat"]),
        (Severity.HIGH, ["ops", "chat"]),
        (Severity.CRITICAL, ["ops", "chat"]),
    ],
)
def test_a_sink_is_told_of_its_severity_and_worse(severity: Severity, told: list[str]) -> None:
    assert [row.sink for row in rows(severity)] == told


def test_ids_come_of_what_is_told_so_that_nothing_is_told_twice() -> None:
    first, second = rows()
    assert rows() == (first, second), "made again, they are the same"
    others = [
        rows(ids=Ids("acme", "a2"))[0],
        rows(ids=Ids("acme", "a1", 2))[0],
        rows(ids=Ids("rival", "a1"))[0],
        rows(kind=Kind.INCIDENT_OPENED)[0],
        second,
    ]
    ids = [first.delivery_id, *(row.delivery_id for row in others)]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in ids)
    later = rows(at_us=AT_US + 2000)[0]
    assert later.delivery_id > first.delivery_id, "they begin with their time"
    news = event_id_of(Kind.ALERT_OPENED, IDS, AT_US)
    assert {json.loads(row.body)["event_id"] for row in (first, second)} == {news}


def test_a_row_waits_and_says_what_it_is() -> None:
    row = rows()[0]
    assert (row.state, row.version, row.attempts, row.due_us) == ("waiting", 1, 0, 0)
    assert (row.kind, row.severity, row.created_us) == ("alert.opened", 3, AT_US)
    assert json.loads(row.body) == {
        "schema_version": 1,
        "event_id": event_id_of(Kind.ALERT_OPENED, IDS, AT_US),
        "kind": "alert.opened",
        "tenant": "acme",
        "severity": "high",
        "at_us": AT_US,
        "alert": {"id": "a1", "reason": "r"},
    }


def test_g12_a_body_has_a_size_however_much_somebody_said() -> None:
    huge = {
        "reason": "\u0000" * 500_000,
        "evidence": [{"call_id": "c" * 32}] * 50_000,
        "deep": {f"k{number}": "v" * 900 for number in range(5_000)},
    }
    row = rows(body=huge)[0]
    said = json.loads(row.body)
    assert len(row.body.encode()) <= BODY_BYTES_MAX
    assert (said["is_cut"], said["alert"]["id"], said["tenant"]) == (True, "a1", "acme")
    assert said["alert"]["reason"].endswith("…")
    assert "is_cut" not in json.loads(rows()[0].body), "positive control"


def test_a_body_cannot_take_the_place_of_what_we_say() -> None:
    said = json.loads(rows(body={"id": "other", "reason": "r"})[0].body)
    assert said["alert"]["id"] == "a1"


@pytest.mark.parametrize("case", yaml.safe_load((CASES / "backoff.yaml").read_text()), ids=str)
def test_the_rest_after_each_attempt(case: dict[str, float]) -> None:
    assert backoff_s(int(case["attempts"]), case["jitter"]) == pytest.approx(case["rest_s"])


def test_a_sink_is_left_alone_for_longer_each_time_up_to_a_cap() -> None:
    rests = [sink_rest_s(failures) for failures in range(1, 9)]
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]
    assert sink_rest_s(10_000) == SINK_REST_CAP_S


def test_what_becomes_of_a_row_is_one_version_on_each_time() -> None:
    row = rows()[0]
    one = taken(row, "n1", AT_US)
    assert (one.version, one.attempts, one.due_us) == (2, 1, AT_US + 30_000_000)
    assert one.said == "; being sent by n1"
    two = failed(one, "it answered 500", AT_US, is_final=False, wait_s=0, jitter=0)
    assert (two.version, two.state, two.due_us) == (3, "waiting", AT_US + 1_000_000)
    asked = failed(one, "it answered 429", AT_US, is_final=False, wait_s=90, jitter=0)
    assert asked.due_us == AT_US + 90_000_000
    three = delivered(taken(two, "n2", AT_US), AT_US)
    assert (three.version, three.state, three.attempts, three.said) == (5, "delivered", 2, "")
    gone = failed(one, "it answered 410", AT_US, is_final=True, wait_s=0, jitter=0)
    assert (gone.state, gone.said) == ("dead", "it answered 410")
    back = again(gone, AT_US)
    assert (back.state, back.attempts, back.due_us, back.version) == ("waiting", 0, 0, 4)
    assert given_up(row, "w" * 900, AT_US).said == "w" * 300


def test_after_so_many_attempts_it_is_dead_with_what_was_said() -> None:
    row = rows()[0]
    for attempt in range(1, ATTEMPTS_MAX + 1):
        assert row.state == "waiting", attempt
        row = taken(row, "n1", AT_US)
        row = failed(row, "no answer", AT_US, is_final=False, wait_s=0, jitter=0)
    assert (row.state, row.attempts, row.said) == ("dead", ATTEMPTS_MAX, "no answer")
