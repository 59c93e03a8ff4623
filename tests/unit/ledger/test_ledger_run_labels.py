"""Which call brought which label: by the chain's order, and no more than is on record."""

from __future__ import annotations

from typing import Any

from sidecar.ledger.run_labels import CallOnRecord, Labelled, labelled

START_US = 1_000
NOTHING: frozenset[str] = frozenset()


def call(
    *labels: str, met: str | None = None, adds: str = "", ahead: bool = True, began: int = START_US
) -> CallOnRecord:
    """A call to a tool with these labels; `met` are those its rules saw, None if it saw no run."""
    run = None if met is None else {"labels": met.split(), "started_us": began, "calls": 1}
    facts: dict[str, Any] = {"labels": list(labels), "run": run}
    if adds:
        facts["adds"] = adds.split()
    return CallOnRecord(ahead, facts)


def told(*calls: CallOnRecord, is_whole: bool = True) -> list[tuple[set[str] | None, ...]]:
    """Before, added, appeared and unseen of each."""
    found = labelled(calls, START_US, is_whole=is_whole)
    return [tuple(None if part is None else set(part) for part in one) for one in found]


def test_each_call_is_told_with_what_was_there_and_what_it_brought() -> None:
    assert told(
        call("private"), call("private", "web", met="private"), call(met="private web"),
        call(met="private web", adds="spent web"),
    ) == [
        (set(), {"private"}, set(), set()),
        ({"private"}, {"web"}, set(), set()),
        ({"private", "web"}, set(), set(), set()),
        ({"private", "web"}, {"spent"}, set(), set()),
    ]  # fmt: skip


def test_of_calls_under_way_together_the_first_on_the_chain_brought_what_both_would() -> None:
    first, second, third = told(
        call("private"), call("private", "web"), call(met="private", adds="late")
    )
    assert first == (set(), {"private"}, set(), set())
    assert second == ({"private"}, {"web"}, set(), {"private"}), "its rules did not see it"
    assert third == ({"private", "web"}, {"late"}, set(), {"web"})


def test_what_did_not_go_ahead_brings_nothing() -> None:
    refused = call("private", adds="spent", ahead=False)
    protocol = CallOnRecord(True, {"labels": ["private"], "run": None, "code": "protocol"})
    unread = CallOnRecord(False, None)
    for one in (refused, protocol, unread):
        assert told(one, call("private"))[1] == (set(), {"private"}, set(), set())
        assert told(one)[0][1] == set()


def test_what_was_erased_is_not_known_and_what_it_left_is_not_told_as_anothers() -> None:
    erased = CallOnRecord(True, None)
    first, second, third = told(erased, call("web", met="private"), call(met="private web"))
    assert first == (set(), None, set(), set())
    assert second == ({"private"}, {"web"}, {"private"}, set())
    assert third == ({"private", "web"}, set(), set(), set())


def test_of_a_run_whose_beginning_is_not_there_the_first_call_says_what_was_before() -> None:
    first, second = told(call("web", met="private"), call(met="private web"), is_whole=False)
    assert first == ({"private"}, {"web"}, set(), set())
    assert second == ({"private", "web"}, set(), set(), set())
    _, late = told(call("web", met="private"), call(met="private web other"), is_whole=False)
    assert late[2] == {"other"}, "of one that is not shown"


def test_what_was_seen_of_another_run_is_nothing_of_this_one() -> None:
    """A run was ended while a call that had seen it was under way: the next began with it."""
    (one,) = told(call("web", met="private", began=START_US - 1))
    assert one == (set(), {"web"}, set(), set())
    unjudged = CallOnRecord(True, {"labels": ["web"]})
    assert labelled([unjudged], None, is_whole=False) == [
        Labelled(NOTHING, frozenset({"web"}), NOTHING, NOTHING)
    ]
