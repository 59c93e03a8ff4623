"""The table of moves, votes, quorum and the boundary of expiry; pure."""

from __future__ import annotations

from itertools import product

import pytest

from sidecar.approvals.states import (
    CHANGED,
    MISMATCH,
    MOVES,
    NOT_OVER,
    OUTDATED,
    UNKNOWN,
    VOTED,
    State,
    Term,
    Terms,
    Vote,
    approver_of,
    closing,
    counts_for,
    expiring,
    is_own,
    moved,
    opening,
    read_terms,
    read_votes,
    spending,
    terms_text,
    votes_text,
    voting,
)
from sidecar.model import Person, Role
from storage.standing import ApprovalRow

ASKS = Term("p/asks", "h1", (), 1)
FINANCE = Term("p/money", "h2", ("finance", "zoe"), 2)
ENDS = [state for state in State if state not in MOVES]


def row(state: str = "pending", *terms: Term, user: str = "") -> ApprovalRow:
    text = terms_text(Terms(terms or (ASKS,), user, "d" * 64))
    return ApprovalRow(
        "acme", "a1", 3, state, "ac" * 32, "coder", "c0", "shop/buy", text, "{}", "[]",
        10, 20, 10, "",
    )  # fmt: skip


def vote(name: str, *rules: str, is_yes: bool = True) -> Vote:
    return Vote(f"person:{name}", name, is_yes, "", 0, rules or ("p/asks",))


def person(name: str, *groups: str, role: Role = Role.APPROVER, agent: str | None = None) -> Person:
    return Person("acme", name, f"person:{name}", frozenset({role}), frozenset(groups), agent)


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_only_moves_of_the_table_can_be_made(before: State, after: State) -> None:
    if after in MOVES.get(before, ()):
        made = moved(row(before), after, 15)
        assert (made.state, made.version, made.changed_at_us) == (after, 4, 15)
    else:
        with pytest.raises(ValueError, match="no approval goes from"):
            moved(row(before), after, 15)


@pytest.mark.parametrize("state", ENDS)
def test_e5_an_end_is_an_end_for_everybody(state: State) -> None:
    done = row(state)
    assert voting(vote("ana"), 3)(done, 15) == state
    assert spending(done.action_sha256, (ASKS,), "c1")(done, 15) == state
    assert expiring(3)(done, 99) == state
    assert closing(State.WITHDRAWN, 3)(done, 15) == state


def test_nothing_is_done_to_what_is_not_there_or_has_changed() -> None:
    steps = (voting(vote("ana"), 3), spending("ac" * 32, (ASKS,), "c1"), expiring(3),
             closing(State.SUPERSEDED, 3))  # fmt: skip
    assert [step(None, 15) for step in steps] == [UNKNOWN] * 4
    assert voting(vote("ana"), 2)(row(), 15) == CHANGED
    assert closing(State.SUPERSEDED, 2)(row(), 15) == CHANGED
    assert expiring(2)(row(), 99) == CHANGED
    assert expiring(2)(row(), 15) == NOT_OVER
    assert opening(row(), 5)(row(), 15) == CHANGED


def test_it_begins_by_the_clock_of_whoever_records_it() -> None:
    begun = opening(row(), 7)(None, 100)
    assert isinstance(begun, ApprovalRow)
    assert (begun.asked_at_us, begun.expires_at_us, begun.changed_at_us) == (100, 107, 100)


@pytest.mark.parametrize(("at_us", "is_over"), [(19, False), (20, True), (21, True)])
def test_e3_at_the_boundary_it_is_over(at_us: int, is_over: bool) -> None:
    said = voting(vote("ana"), 3)(row(), at_us)
    assert (said == "expired") is is_over
    spent = spending("ac" * 32, (ASKS,), "c1")(row("approved"), at_us)
    assert (spent == "expired") is is_over
    ended = expiring(3)(row(), at_us)
    assert (ended == NOT_OVER) is not is_over


def test_e1_another_action_or_other_terms_do_not_burn_it() -> None:
    yes = row("approved")
    assert spending("ad" * 32, (ASKS,), "c1")(yes, 15) == MISMATCH
    for terms in (
        (ASKS._replace(rule_hash="h9"),),
        (ASKS._replace(quorum=2),),
        (ASKS, FINANCE),
        (),
    ):
        assert spending("ac" * 32, terms, "c1")(yes, 15) == OUTDATED
    spent = spending("ac" * 32, (ASKS,), "c1")(yes, 15)
    assert isinstance(spent, ApprovalRow) and (spent.state, spent.spent_by) == ("spent", "c1")


def test_of_several_terms_each_needs_its_quorum_and_a_no_ends_it() -> None:
    asked = row("pending", ASKS, FINANCE)
    both = ("p/asks", "p/money")
    first = voting(vote("ana", *both), 3)(asked, 11)
    assert isinstance(first, ApprovalRow) and first.state == "pending"
    assert voting(vote("ana", *both), 4)(first, 12) == VOTED
    second = voting(vote("bo", "p/asks"), 4)(first, 12)
    assert isinstance(second, ApprovalRow) and second.state == "pending", "not of finance"
    third = voting(vote("zoe", "p/money"), 5)(second, 13)
    assert isinstance(third, ApprovalRow) and third.state == "approved"
    assert approver_of(third) == "person:ana,person:bo,person:zoe"
    assert [one.at_us for one in read_votes(third.votes)] == [11, 12, 13]
    no = voting(vote("bo", "p/asks", is_yes=False), 4)(first, 12)
    assert isinstance(no, ApprovalRow) and no.state == "rejected"


@pytest.mark.parametrize(
    ("actor", "name", "said"),
    [
        ("person:ana", "ana", VOTED),
        ("link:ana", "ana", VOTED),
        ("key:k1", "ana", VOTED),
        ("person:ana", "ana of the night shift", VOTED),
        ("link:bo", "bo", "approved"),
    ],
)
def test_e5_nobody_fills_a_quorum_alone_by_a_link_or_another_key(
    actor: str, name: str, said: str
) -> None:
    first = voting(vote("ana", "p/money"), 3)(row("pending", FINANCE), 11)
    assert isinstance(first, ApprovalRow) and first.state == "pending"
    second = voting(Vote(actor, name, True, "", 0, ("p/money",)), 4)(first, 12)
    assert (second.state if isinstance(second, ApprovalRow) else second) == said


@pytest.mark.parametrize(
    ("who", "rules"),
    [
        (person("ana"), ("p/asks",)),
        (person("ana", "finance"), ("p/asks", "p/money")),
        (person("zoe"), ("p/asks", "p/money")),
        (person("ana", role=Role.ADMIN), ("p/asks", "p/money")),
        (person("zoe", "finance", role=Role.OPERATOR), ()),
        (person("zoe", "finance", role=Role.VIEWER), ()),
    ],
)
def test_for_which_rules_a_vote_counts(who: Person, rules: tuple[str, ...]) -> None:
    assert counts_for(who, (ASKS, FINANCE)) == rules


def test_e5_nobody_decides_on_his_own() -> None:
    asked = row(user="ana")
    assert is_own(asked, person("ana")) and not is_own(asked, person("bo"))
    assert is_own(asked, person("key", agent="coder")) and is_own(row(), person("k", agent="x"))
    assert not is_own(row(), person("ana")), "positive control: asked for nobody"
    for written in ("Ana", " ANA\n", "Person:ana"):
        assert is_own(row(user=written), person("ana")), written
    assert not is_own(row(user="Anan"), person("ana"))


def test_what_is_kept_reads_as_it_was_written() -> None:
    terms = Terms((ASKS, FINANCE), "ana", "d" * 64)
    assert read_terms(terms_text(terms)) == terms
    votes = [vote("ana"), vote("bo", "p/money", is_yes=False)]
    assert read_votes(votes_text(votes)) == votes
