"""The engine against a slow reference that looks at the whole history, and against itself begun
anew from any cut: the same hits, for random events.

The reference knows nothing of how the engine keeps things: it has a list of all events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from soc_setup import DAY_US, HOUR_US, MINUTE_US, START_US, compiled, event

from sidecar.soc import engine_memories, engine_windows
from sidecar.soc.detection import Detections
from sidecar.soc.engine import EVIDENCE_MAX, Engine
from sidecar.soc.model import Event, Hit
from storage.watch_rows import WatchMemory

COUNTING = """detection: counting
severity: high
where: {effect: deny}
by: agent
at_least: 3
within: 60s
reason: "{agent.name} {count} {within}"
"""
DIFFERENT = """detection: different
severity: low
by: [agent, tenant]
distinct: tool.name
at_least: 3
within: 60s
"""
FOLLOWING = """detection: following
severity: high
by: agent
sequence:
  - {tools: "a/*"}
  - {tools: ["b/*", "a/*"]}
  - {tools: "c/*", effect: allow}
within: 60s
"""
PAIR = """detection: pair
severity: high
by: [agent, tool]
sequence: [{effect: deny}, {effect: allow}]
within: 2m
"""
EACH = """detection: each
severity: info
where: {code: policy_*, effect: deny, tools: "a/*"}
by: tool
"""
NEW = """detection: new
severity: info
by: agent
first: tool.name
"""
MUCH = """detection: much
severity: medium
by: agent
unusual: {sigma: 2, history: 1d, buckets: 3}
reason: "{count} {usual}"
"""
ALL = compiled(COUNTING, DIFFERENT, FOLLOWING, PAIR, EACH, NEW, MUCH)

#: What is compared of a hit: the detection, the subject, the receipts it rests on.
Said = tuple[str, tuple[str, ...], tuple[int, ...]]


def said(hit: Hit) -> Said:
    return hit.detection, hit.subject, tuple(one.seq for one in hit.evidence)


# -- the reference ---------------------------------------------------------------------------

Meant = Callable[[Event], bool]


def of_agent(event: Event) -> tuple[str, ...]:
    return (event.agent,)


@dataclass
class Reference:
    """All events so far; each rule looks through all of them for the last one."""

    events: list[Event]

    def hits(self) -> list[Said]:
        now = self.events[-1]
        found: list[Said] = []
        if now.effect == "deny":
            found += self.counted("counting", of_agent, lambda one: one.effect == "deny")
        found += self.different()
        if now.effect == "deny" and now.tool.startswith("a/"):
            found.append(("each", (now.tool,), (now.evidence.seq,)))
        found += self.following(
            "following",
            of_agent,
            [
                lambda one: one.tool.startswith("a/"),
                lambda one: one.tool[:2] in ("b/", "a/"),
                lambda one: one.tool.startswith("c/") and one.effect == "allow",
            ],
            MINUTE_US,
        )
        found += self.following(
            "pair",
            lambda one: (one.agent, one.tool),
            [lambda one: one.effect == "deny", lambda one: one.effect == "allow"],
            2 * MINUTE_US,
        )
        found += self.first()
        found += self.unusual()
        return sorted(found)

    def counted(
        self, name: str, whom: Callable[[Event], tuple[str, ...]], meant: Meant
    ) -> list[Said]:
        """Enough of them in the last minute, and not said yet in this minute by the clock."""
        mine = [one for one in self.events if meant(one) and whom(one) == whom(self.events[-1])]

        def window(at: int) -> list[Event]:
            return [one for one in mine[: at + 1] if one.at_us > mine[at].at_us - MINUTE_US]

        here = mine[-1].at_us // MINUTE_US
        earlier = range(len(mine) - 1)
        if any(len(window(at)) >= 3 for at in earlier if mine[at].at_us // MINUTE_US == here):
            return []
        last = window(len(mine) - 1)
        seqs = tuple(one.evidence.seq for one in last)
        return [(name, whom(mine[-1]), seqs)] if len(last) >= 3 else []

    def different(self) -> list[Said]:
        mine = [one for one in self.events if one.agent == self.events[-1].agent]

        def last_of_each(at: int) -> dict[str, int]:
            since = mine[at].at_us - MINUTE_US
            inside = [one for one in mine[: at + 1] if one.at_us > since]
            return {one.tool: one.evidence.seq for one in inside}

        here = mine[-1].at_us // MINUTE_US
        earlier = [at for at in range(len(mine) - 1) if mine[at].at_us // MINUTE_US == here]
        if any(len(last_of_each(at)) >= 3 for at in earlier):
            return []
        last = last_of_each(len(mine) - 1)
        whom = (self.events[-1].agent, "acme")
        return [("different", whom, tuple(sorted(last.values())))] if len(last) >= 3 else []

    def following(
        self,
        name: str,
        whom: Callable[[Event], tuple[str, ...]],
        steps: Sequence[Meant],
        within_us: int,
    ) -> list[Said]:
        """Each event that ends a sequence takes the first step that began last; that one and all
        before it begin no other."""
        mine = [one for one in self.events if whom(one) == whom(self.events[-1])]
        used = -1
        found: list[int] = []
        for end in range(len(mine)):
            found = []
            if not steps[-1](mine[end]):
                continue
            for begin in range(end - 1, used, -1):
                if mine[begin].at_us <= mine[end].at_us - within_us:
                    break
                way = self.way(mine, steps, begin, end)
                if way:
                    used, found = begin, way
                    break
        seqs = tuple(mine[at].evidence.seq for at in found)
        return [(name, whom(mine[-1]), seqs)] if found else []

    def way(self, mine: list[Event], steps: Sequence[Meant], begin: int, end: int) -> list[int]:
        """From a first step to the end, by the steps between as soon as each comes. A step that
        could begin later is not taken by an earlier beginning, so the first is the one meant."""
        if not steps[0](mine[begin]):
            return []
        way = [begin]
        for step in steps[1:-1]:
            after = [at for at in range(way[-1] + 1, end) if step(mine[at])]
            if not after:
                return []
            way.append(after[0])
        return [*way, end]

    def first(self) -> list[Said]:
        now = self.events[-1]
        before = [
            one.at_us // DAY_US
            for one in self.events[:-1]
            if (one.agent, one.tool) == (now.agent, now.tool)
        ]
        is_known = before and now.at_us // DAY_US - before[-1] <= 90
        return [] if is_known else [("new", (now.agent,), (now.evidence.seq,))]

    def unusual(self) -> list[Said]:
        mine = [one for one in self.events if one.agent == self.events[-1].agent]
        hour = mine[-1].at_us // HOUR_US

        def too_many(count: int) -> bool:
            hours: dict[int, int] = {}
            for one in mine:
                at = one.at_us // HOUR_US
                if hour - 24 <= at < hour:
                    hours[at] = hours.get(at, 0) + 1
            counts = list(hours.values())
            if len(counts) < 3 or pstdev(counts) == 0:
                return False
            return count > fmean(counts) + 2 * pstdev(counts)

        count = sum(one.at_us // HOUR_US == hour for one in mine)
        is_new = too_many(count) and not any(too_many(fewer) for fewer in range(1, count))
        return [("much", (mine[-1].agent,), (mine[-1].evidence.seq,))] if is_new else []


# -- random events ---------------------------------------------------------------------------

_GAPS = st.sampled_from([0, 1, MINUTE_US // 3, MINUTE_US - 1, MINUTE_US, HOUR_US // 2, HOUR_US])
_LONG = st.sampled_from([*[0] * 12, 20 * HOUR_US, 91 * DAY_US])
HISTORIES = st.lists(
    st.tuples(
        _GAPS,
        _LONG,
        st.sampled_from(["coder", "helper"]),
        st.sampled_from(["a/x", "a/y", "b/x", "c/x"]),
        st.sampled_from(["allow", "deny"]),
    ),
    max_size=40,
)


def events_of(history: list[tuple[int, int, str, str, str]]) -> list[Event]:
    at_us, events = START_US, []
    for seq, (gap, long, agent, tool, effect) in enumerate(history, 1):
        at_us += gap + long
        events.append(event(seq, at_us, agent=agent, tool=tool, effect=effect))
    return events


def steps_of(*tools: str) -> list[tuple[int, int, str, str, str]]:
    return [(1, 0, "coder", tool, "allow") for tool in tools]


@settings(max_examples=120, deadline=None)
@given(HISTORIES)
@example(steps_of("a/x", "b/x", "b/x", "c/x"))
@example(steps_of("a/x", "b/x", "a/y", "a/x", "c/x", "c/x", "b/x", "c/x"))
@example(steps_of("a/x", "c/x", "a/x", "a/x", "a/x", "c/x", "c/x", "c/x"))
def test_the_engine_finds_what_a_look_at_the_whole_history_finds(
    history: list[tuple[int, int, str, str, str]],
) -> None:
    engine, reference = Engine(ALL, "acme"), Reference([])
    for one in events_of(history):
        reference.events.append(one)
        assert sorted(map(said, engine.see(one))) == reference.hits()
    assert engine.dropped == 0 and not engine.failed


@settings(max_examples=80, deadline=None)
@given(HISTORIES, st.integers(0, 40), st.integers(1, 7))
def test_whoever_begins_anew_from_any_cut_comes_to_the_same_hits(
    history: list[tuple[int, int, str, str, str]], cut: int, page: int
) -> None:
    events = events_of(history)
    cut = min(cut, len(events))
    whole, kept = Engine(ALL, "acme"), dict[tuple[str, str], WatchMemory]()
    before: list[Hit] = []
    for at, one in enumerate(events[:cut], 1):
        before += whole.see(one)
        if at % page == 0 or at == cut:
            for row in whole.changed_memories():
                assert (
                    row.version == getattr(kept.get((row.detection, row.subject)), "version", 0) + 1
                )
                kept[row.detection, row.subject] = row
    again = Engine(ALL, "acme")
    again.remember(reversed(list(kept.values())))
    mark_us = events[cut - 1].at_us if cut else 0
    for one in events[:cut]:
        if one.at_us > mark_us - again.horizon_us:
            again.see(one)  # raises nothing: it was raised before
    for one in events[cut:]:
        assert whole.see(one) == again.see(one)
    assert [row[1:] for row in whole.changed_memories()] == [
        row[1:] for row in again.changed_memories()
    ]


# -- by hand ---------------------------------------------------------------------------------


def test_a_hit_says_what_it_rests_on() -> None:
    engine = Engine(ALL.only(["counting"]), "acme")
    hits = [hit for seq in range(1, 5) for hit in engine.see(event(seq, START_US + seq, run="r7"))]
    assert len(hits) == 1
    hit = hits[0]
    assert (hit.subject, hit.reason) == (("coder",), "coder 3 1m")
    assert (hit.agent, hit.run, hit.tool, hit.upstream) == ("coder", "r7", "mail/send", "mail")
    assert [one.call_id for one in hit.evidence] == ["call1", "call2", "call3"]
    assert hit.at_us == START_US + 3 and hit.seq == 3


def test_of_many_events_the_first_and_the_last_are_named() -> None:
    found = compiled(COUNTING.replace("at_least: 3", "at_least: 100"))
    engine = Engine(found, "acme")
    hits = [hit for seq in range(1, 101) for hit in engine.see(event(seq, START_US + seq))]
    assert len(hits) == 1
    seqs = [one.seq for one in hits[0].evidence]
    half = EVIDENCE_MAX // 2
    assert seqs == [*range(1, half + 1), *range(101 - half, 101)]


def test_g11_a_storm_of_twenty_thousand_events_is_few_hits_and_little_memory() -> None:
    engine = Engine(ALL, "acme")
    hits = [
        hit
        for seq in range(1, 20_001)
        for hit in engine.see(event(seq, START_US + seq * 1000, effect="deny"))
    ]
    assert [one.detection for one in hits] == ["new", "counting"]
    assert engine.kept < 3_000


def test_g11_more_subjects_than_there_is_room_for_push_out_the_oldest_and_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_windows, "SUBJECTS_MAX", 10)
    monkeypatch.setattr(engine_memories, "SUBJECTS_MAX", 10)
    engine = Engine(ALL.only(["counting", "new"]), "acme")
    for seq in range(1, 101):
        engine.see(event(seq, START_US + seq, agent=f"agent-{seq}"))
    assert engine.kept == 20 and engine.dropped == 180
    forgotten = [row for row in engine.changed_memories() if row.until_us == 0]
    assert len(forgotten) == 90 and {row.state for row in forgotten} == {"{}"}
    engine.see(event(101, START_US + 101, agent="agent-100"))
    assert len(engine.see(event(102, START_US + 102, agent="agent-100"))) == 1


def test_g11_more_events_than_there_is_room_for_push_out_whole_subjects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_windows, "EVENTS_MAX", 20)
    engine = Engine(ALL.only(["counting"]), "acme")
    for seq in range(1, 41):
        engine.see(event(seq, START_US + seq, agent=f"agent-{seq // 2}"))
    assert engine.kept <= 20 and engine.dropped >= 20


def test_what_another_form_of_detection_remembered_says_nothing() -> None:
    engine = Engine(ALL.only(["new"]), "acme")
    engine.see(event(1, START_US))
    rows = engine.changed_memories()
    changed = compiled(NEW.replace("tool.name", "agent.name"))
    other = Engine(changed, "acme")
    other.remember([*rows, WatchMemory("acme", "new", "broken", 3, "no JSON", 0)])
    assert len(other.see(event(2, START_US))) == 1
    assert [row.version for row in other.changed_memories()] == [2]


def test_an_engine_of_no_detections_is_silent() -> None:
    engine = Engine(Detections((), ""), "acme")
    assert engine.see(event(1, START_US)) == () and engine.horizon_us == 0
    assert engine.changed_memories() == ()
