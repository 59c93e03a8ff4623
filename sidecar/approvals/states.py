"""The states of an approval and the moves between them, as a table; votes and what they come to.

Knows: that an approval begins as pending and ends once: the first terminal state wins. Every move
is a pure step from a row and a moment to the row one version on, or to the word that says why not.
Must not know: stores, clocks, who may ask, HTTP.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from sidecar.model import Decision, Effect, Mode, Person, Role
from storage.standing import ApprovalRow


class State(enum.StrEnum):
    """Of an approval. Pending and approved ones are open: there is one of an action at most."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SPENT = "spent"
    #: A person took it back before anything was done by it.
    WITHDRAWN = "withdrawn"
    #: What has to be given is another by now; a new approval was opened.
    SUPERSEDED = "superseded"


#: From each state to those that may follow. What stands nowhere is an end.
MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.PENDING: frozenset(
        {State.PENDING, State.APPROVED, State.REJECTED, State.EXPIRED, State.WITHDRAWN,
         State.SUPERSEDED}
    ),
    State.APPROVED: frozenset({State.SPENT, State.EXPIRED, State.WITHDRAWN, State.SUPERSEDED}),
}  # fmt: skip
OPEN: Final = frozenset(MOVES)

Step = Callable[[ApprovalRow | None, int], ApprovalRow | str]

#: Words of steps that are no states: there is none of that id; it is about another action; other
#: rules ask by now, or ask for something else; it was changed since it was looked at; it is not
#: over yet.
UNKNOWN: Final = "unknown"
MISMATCH: Final = "mismatch"
OUTDATED: Final = "outdated"
CHANGED: Final = "changed"
NOT_OVER: Final = "not_over"
VOTED: Final = "voted"


class Term(NamedTuple):
    """What one rule wants: so many yeses of such people; no `approvers` are any approver."""

    rule_id: str
    rule_hash: str
    approvers: tuple[str, ...]
    quorum: int


class Vote(NamedTuple):
    """What a person said, and for which rules it counts."""

    actor: str
    name: str
    is_yes: bool
    reason: str
    at_us: int
    rules: tuple[str, ...]


class Terms(NamedTuple):
    """All that has to be given, for whom it is asked, and the digest of what approvers read."""

    terms: tuple[Term, ...]
    user: str
    asked_sha256: str


# -- texts -----------------------------------------------------------------------------------


def wanted(decision: Decision) -> tuple[Term, ...]:
    """What the rules that ask want together, in order of their names."""
    hashes = {
        match.rule_id: match.rule_hash
        for match in decision.matches
        if match.effect is Effect.REQUIRE_APPROVAL and match.mode is Mode.ENFORCE
    }
    return tuple(
        Term(one.rule_id, hashes.get(one.rule_id, ""), one.approvers, one.quorum)
        for one in sorted(decision.approvals, key=lambda one: one.rule_id)
    )


def terms_text(terms: Terms) -> str:
    """As the store keeps them."""
    return orjson.dumps(
        {
            "terms": [one._asdict() for one in terms.terms],
            "user": terms.user,
            "asked_sha256": terms.asked_sha256,
        }
    ).decode()


def read_terms(text: str) -> Terms:
    """What `terms_text` gave."""
    said = orjson.loads(text)
    return Terms(
        tuple(
            Term(one["rule_id"], one["rule_hash"], tuple(one["approvers"]), one["quorum"])
            for one in said["terms"]
        ),
        said["user"],
        said["asked_sha256"],
    )


def votes_text(votes: Iterable[Vote]) -> str:
    """As the store keeps them."""
    return orjson.dumps([one._asdict() for one in votes]).decode()


def read_votes(text: str) -> list[Vote]:
    """What `votes_text` gave."""
    return [Vote(**{**one, "rules": tuple(one["rules"])}) for one in orjson.loads(text)]


def approver_of(row: ApprovalRow) -> str:
    """Who said yes, as a receipt names them."""
    return ",".join(vote.actor for vote in read_votes(row.votes) if vote.is_yes)


# -- who may vote ----------------------------------------------------------------------------


def counts_for(person: Person, terms: Sequence[Term]) -> tuple[str, ...]:
    """The rules a person's vote counts for; none if he may not vote at all. An admin's counts for
    every rule: whoever may change the rules can, and does it on record."""
    if not person.may(Role.APPROVER):
        return ()
    mine = {person.name, *person.groups}
    is_admin = Role.ADMIN in person.roles
    return tuple(
        one.rule_id
        for one in terms
        if is_admin or not one.approvers or mine.intersection(one.approvers)
    )


def is_own(row: ApprovalRow, person: Person) -> bool:
    """Whether a person would decide on what he asks for himself, in person or as the agent. An
    agent writes the name as its own users have it, who are in capitals elsewhere."""
    if person.agent is not None:
        return True  # no agent decides on anything
    user = read_terms(row.terms).user.strip().casefold()
    return bool(user) and user in (person.name.casefold(), person.actor.casefold())


def has_voted(votes: Iterable[Vote], actor: str, name: str) -> bool:
    """Whether somebody has said his, be it with another key or by a link."""
    return any(actor == one.actor or name == one.name for one in votes)


# -- steps -----------------------------------------------------------------------------------


def moved(row: ApprovalRow, state: State, at_us: int, **changes: Any) -> ApprovalRow:
    """The row one version on; raises ValueError for a move that the table does not have."""
    if state not in MOVES.get(State(row.state), ()):
        raise ValueError(f"no approval goes from {row.state} to {state}")
    return row._replace(version=row.version + 1, state=state.value, changed_at_us=at_us, **changes)


def is_over(row: ApprovalRow, at_us: int) -> bool:
    """Whether an open approval's time has run out; at the boundary it has."""
    return at_us >= row.expires_at_us


def opening(draft: ApprovalRow, life_us: int) -> Step:
    """Begins one: `draft` without its times."""

    def step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
        if row is not None:
            return CHANGED
        return draft._replace(asked_at_us=at_us, expires_at_us=at_us + life_us, changed_at_us=at_us)

    return step


def voting(vote: Vote, version: int) -> Step:
    """Adds a vote to the approval as it was looked at; with the last yes it is approved, with the
    first no rejected."""

    def step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
        if row is None:
            return UNKNOWN
        if row.state != State.PENDING:
            return row.state
        if is_over(row, at_us):
            return State.EXPIRED.value
        if row.version != version:
            return CHANGED
        votes = read_votes(row.votes)
        if has_voted(votes, vote.actor, vote.name):
            return VOTED
        votes.append(vote._replace(at_us=at_us))
        return moved(row, _come_to(row, votes), at_us, votes=votes_text(votes))

    return step


def _come_to(row: ApprovalRow, votes: Sequence[Vote]) -> State:
    if any(not vote.is_yes for vote in votes):
        return State.REJECTED
    for term in read_terms(row.terms).terms:
        if sum(term.rule_id in vote.rules for vote in votes) < term.quorum:
            return State.PENDING
    return State.APPROVED


def spending(action_sha256: str, terms: Sequence[Term], call_id: str) -> Step:
    """Spends a yes for this very action, if these are still the terms it was given on."""

    def step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
        if row is None:
            return UNKNOWN
        if row.action_sha256 != action_sha256:
            return MISMATCH
        if row.state != State.APPROVED:
            return row.state
        if is_over(row, at_us):
            return State.EXPIRED.value
        if read_terms(row.terms).terms != tuple(terms):
            return OUTDATED
        return moved(row, State.SPENT, at_us, spent_by=call_id)

    return step


def expiring(version: int) -> Step:
    """Ends one whose time has run out, as it was looked at: what is put on record of it holds."""

    def step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
        if row is None:
            return UNKNOWN
        if row.state not in OPEN:
            return row.state
        if not is_over(row, at_us):
            return NOT_OVER
        return moved(row, State.EXPIRED, at_us) if row.version == version else CHANGED

    return step


def closing(state: State, version: int) -> Step:
    """Ends an open one, as it was looked at, for another cause (`state`)."""

    def step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
        if row is None:
            return UNKNOWN
        if row.state not in OPEN:
            return row.state
        return moved(row, state, at_us) if row.version == version else CHANGED

    return step
