"""What alerts rest on: what is named, and how much is not, which is never said to be more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from soc_setup import START_US, compiled, event

from sidecar.soc.correlation import correlate
from sidecar.soc.engine import EVIDENCE_MAX, Engine
from sidecar.soc.evidence import first_of, joined_to, read_evidence
from sidecar.soc.levels import Level

MANY = compiled("detection: many\nseverity: high\nat_least: 100\nwithin: 60s\n")


def test_an_alert_of_many_says_how_many_it_does_not_name() -> None:
    engine = Engine(MANY, "acme")
    hits = [hit for seq in range(1, 101) for hit in engine.see(event(seq, START_US + seq))]
    assert [hit.left_out for hit in hits] == [100 - EVIDENCE_MAX]
    (alert,) = correlate("acme", hits, [], [], Level.LOG, START_US).alerts
    resting = read_evidence(alert.evidence)
    assert (len(resting.raised), resting.left_out) == (EVIDENCE_MAX, 100 - EVIDENCE_MAX)


def test_of_a_burst_that_goes_on_more_is_left_out() -> None:
    engine = Engine(MANY, "acme")
    every_us = 100_000  # 600 in a window, for two of them
    hits = [
        hit for seq in range(1, 1_201) for hit in engine.see(event(seq, START_US + seq * every_us))
    ]
    (alert,) = correlate("acme", hits, [], [], Level.LOG, START_US).alerts
    resting = read_evidence(alert.evidence)
    assert alert.hits > 1 and resting.left_out > 500
    assert resting.left_out + len(resting.every) <= 1_200


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 120)), min_size=1, max_size=8))
def test_there_are_never_fewer_than_it_says(windows: list[tuple[int, int]]) -> None:
    every, at, resting = set[int](), 1, None
    for step, size in windows:
        at += step
        seqs = list(range(at, at + size))
        every |= set(seqs)
        found = [event(seq, START_US + seq).evidence for seq in seqs]
        half = EVIDENCE_MAX // 2
        named = found if size <= EVIDENCE_MAX else [*found[:half], *found[-half:]]
        left = size - len(named)
        resting = first_of(named, left) if resting is None else joined_to(resting, named, left)
        assert len({one.seq for one in resting.every}) + resting.left_out <= len(every)
