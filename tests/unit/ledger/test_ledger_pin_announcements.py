"""When a list that a server announced is whole (C12). Times are small numbers."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.ledger.pin_announcements import PAGES_MAX, Announcements

#: What happens, step by step: ("announce", at) or (asked at, cursor, next cursor).
Step = tuple[Any, ...]
WHOLE: dict[str, list[Step]] = {
    "one page": [("announce", 5), (6, None, None)],
    "an empty cursor is none": [("announce", 5), (6, "", "")],
    "three pages": [("announce", 5), (6, None, "a"), (7, "a", "b"), (8, "b", None)],
    "two lists at once": [
        ("announce", 5), (6, None, "a"), (6, None, "a"), (7, "a", "b"), (9, "b", None),
    ],
    "a page twice": [("announce", 5), (6, None, "a"), (7, "a", "b"), (8, "a", "b"), (9, "b", None)],
    "anew after another announcement": [
        ("announce", 5), (6, None, "a"), ("announce", 7), (8, None, "a"), (9, "a", None),
    ],
}  # fmt: skip
OWED: dict[str, list[Step]] = {
    "nothing was listed": [("announce", 5)],
    "asked before the announcement": [("announce", 5), (4, None, None)],
    "asked at the same moment": [("announce", 5), (5, None, None)],
    "the first page alone": [("announce", 5), (6, None, "a")],
    "the last page alone": [("announce", 5), (6, "a", None)],
    "a page of a list that began before": [("announce", 5), (4, None, "a"), (6, "a", None)],
    "a page is left out": [("announce", 5), (6, None, "a"), (8, "b", None)],
    "announced again within": [
        ("announce", 5), (6, None, "a"), ("announce", 7), (8, "a", None),
    ],
    "announced again while it was asked for": [("announce", 5), ("announce", 7), (6, None, None)],
    "a cursor that is no text": [("announce", 5), (6, None, 7), (7, "7", None)],
}  # fmt: skip


def run(announced: Announcements, steps: list[Step]) -> None:
    for step in steps:
        if step[0] == "announce":
            announced.announce("acme", "calc", step[1])
        else:
            announced.compared("acme", "calc", *step)


@pytest.mark.parametrize("name", WHOLE)
def test_c12_a_whole_list_that_was_asked_for_later_is_what_was_owed(name: str) -> None:
    announced = Announcements()
    announced.announce("rival", "calc", 5)
    run(announced, WHOLE[name])
    assert set(announced.open) == {("rival", "calc")}, "and nobody else's"


@pytest.mark.parametrize("name", OWED)
def test_c12_less_than_that_is_not(name: str) -> None:
    announced = Announcements()
    run(announced, OWED[name])
    assert set(announced.open) == {("acme", "calc")}
    run(announced, [(90, None, None)])
    assert not announced.open, "positive control"


def test_c12_whether_an_announcement_is_news_and_pages_are_bounded() -> None:
    announced = Announcements()
    assert announced.announce("acme", "calc", 1)
    assert not announced.announce("acme", "calc", 2)
    for number in range(PAGES_MAX + 1):
        announced.compared("acme", "calc", 3, None, f"page {number}")
    assert not announced.compared("acme", "calc", 4, "page 0", None), "it is forgotten"
    assert announced.compared("acme", "calc", 4, "page 1", None)
    assert announced.announce("acme", "calc", 9)
