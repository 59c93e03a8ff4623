"""What people do with approvals: look at those of their tenant, say yes or no, or take one back.

Knows: that nobody decides on his own, that a person is asked once, that the first end stands; that
what belongs to another tenant answers as what does not exist; that nobody reads, or votes on, a
text that is not the one that was asked. To take back only makes stricter, so that whoever may
approve or operate can, also what was asked on his own behalf.
Must not know: HTTP, how a person is known, the calls that wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.approvals.as_asked import is_as_asked
from sidecar.approvals.changes import Changes
from sidecar.approvals.entries import APPROVE, REJECT, WITHDRAW
from sidecar.approvals.refusals import ApprovalRefused, already
from sidecar.approvals.states import (
    CHANGED,
    OPEN,
    UNKNOWN,
    VOTED,
    State,
    Vote,
    closing,
    counts_for,
    has_voted,
    is_own,
    moved,
    read_terms,
    read_votes,
    voting,
)
from sidecar.model import Role
from storage.records import AFTER_ALL_IDS, Declined, Recorded
from storage.standing import ApprovalRow

if TYPE_CHECKING:
    from sidecar.model import Person
    from storage.protocol import ApprovalReader

#: How often a vote is begun anew because others voted meanwhile.
TRIES_MAX: Final = 16
REASON_LENGTH_MAX: Final = 1000
#: Approvals that are looked at for the last one that was given.
LOOKED_AT_MAX: Final = 1000


class Deciding:
    """One for a sidecar."""

    def __init__(self, changes: Changes, reader: ApprovalReader) -> None:
        self._changes = changes
        self._reader = reader

    async def show(self, tenant: str, approval_id: str) -> ApprovalRow:
        """One approval, to be read; one whose time has run out stands as expired. Raises
        ApprovalRefused, also where the text is not the one that was asked."""
        row = await self.found(tenant, approval_id)
        if not is_as_asked(row):
            raise ApprovalRefused("approval_altered", state=row.state)
        return row

    async def found(self, tenant: str, approval_id: str) -> ApprovalRow:
        """The same for what does not rest on its text, whatever that is by now."""
        row = await self._reader.approval(tenant, approval_id)
        if row is None:
            raise ApprovalRefused("unknown_approval")
        return self._changes.as_it_is(row)

    async def granted_before(self, row: ApprovalRow) -> ApprovalRow | None:
        """The one that the same agent was given for the same tool last before this one."""
        return await self._reader.approval_granted_before(
            row.tenant_id, row.approval_id, row.agent_id, row.tool, LOOKED_AT_MAX
        )

    async def waiting_ones(
        self, tenant: str, after_id: str, limit: int
    ) -> tuple[list[ApprovalRow], str]:
        """Those that are open, the oldest first, and the id after which there may be more; "" if
        there are none."""
        rows = await self._reader.open_approvals(tenant, after_id, limit)
        last = rows[-1].approval_id if len(rows) == limit else ""
        return [row for row in map(self._changes.as_it_is, rows) if row.state in OPEN], last

    async def latest(self, tenant: str, before_id: str, limit: int) -> list[ApprovalRow]:
        """Those in any state, the newest first; `before_id` "" begins with the newest."""
        rows = await self._reader.approvals_before(tenant, before_id or AFTER_ALL_IDS, limit)
        return list(map(self._changes.as_it_is, rows))

    async def approve(
        self, tenant: str, approval_id: str, person: Person, reason: str = ""
    ) -> ApprovalRow:
        """A person's yes, on record; the approval after it. Raises ApprovalRefused, StoreError."""
        return await self._changes.whole(
            self._vote(tenant, approval_id, person, reason, is_yes=True)
        )

    async def reject(
        self, tenant: str, approval_id: str, person: Person, reason: str = ""
    ) -> ApprovalRow:
        """A person's no, which ends it; like `approve`."""
        return await self._changes.whole(
            self._vote(tenant, approval_id, person, reason, is_yes=False)
        )

    async def withdraw(
        self, tenant: str, approval_id: str, person: Person, reason: str = ""
    ) -> ApprovalRow:
        """Takes back the question, or a yes that nothing was done by yet, on record; the approval
        after it. Raises ApprovalRefused, StoreError."""
        return await self._changes.whole(self._withdraw(tenant, approval_id, person, reason))

    async def _withdraw(
        self, tenant: str, approval_id: str, person: Person, reason: str
    ) -> ApprovalRow:
        if person.tenant != tenant:
            raise ApprovalRefused("unknown_approval")
        if person.agent is not None or not (person.may(Role.OPERATOR) or person.may(Role.APPROVER)):
            raise ApprovalRefused("not_an_approver")
        for _ in range(TRIES_MAX):
            row = await self.found(tenant, approval_id)
            if row.state not in OPEN:
                raise already(row.state)
            after = moved(row, State.WITHDRAWN, self._changes.now_us())
            step = closing(State.WITHDRAWN, row.version)
            why = reason[:REASON_LENGTH_MAX]
            answer = await self._changes.change(row, WITHDRAW, step, person.actor, after, why)
            if isinstance(answer, Recorded):
                self._changes.ended_here(after)
                self._changes.waiting.wake((tenant, approval_id))
                self._changes.waiting.bell.ring_elsewhere()
                return after
            if isinstance(answer, Declined) and answer.why != CHANGED:
                raise _vote_refused(answer.why)
        raise ApprovalRefused("approval_changing")

    async def _vote(
        self, tenant: str, approval_id: str, person: Person, reason: str, *, is_yes: bool
    ) -> ApprovalRow:
        if person.tenant != tenant:
            raise ApprovalRefused("unknown_approval")
        for _ in range(TRIES_MAX):
            row = await self.show(tenant, approval_id)
            if row.state != State.PENDING:
                raise already(row.state)
            vote = self._checked_vote(row, person, reason[:REASON_LENGTH_MAX], is_yes)
            step = voting(vote, row.version)
            after = step(row, self._changes.now_us())
            if isinstance(after, str):
                raise _vote_refused(after)
            verb = APPROVE if is_yes else REJECT
            answer = await self._changes.change(row, verb, step, person.actor, after, vote.reason)
            if isinstance(answer, Recorded):
                if after.state == State.PENDING:
                    return after
                if after.state == State.APPROVED:
                    self._changes.register.decided(after, self._changes.now_us())
                else:
                    self._changes.ended_here(after)
                self._changes.waiting.wake((tenant, approval_id))
                self._changes.waiting.bell.ring_elsewhere()
                return after
            if not isinstance(answer, Declined):
                continue
            if answer.why != CHANGED:
                raise _vote_refused(answer.why)
        raise ApprovalRefused("approval_changing")

    def _checked_vote(self, row: ApprovalRow, person: Person, reason: str, is_yes: bool) -> Vote:
        refused = has_no_say(row, person)
        if refused is not None:
            raise refused
        rules = counts_for(person, read_terms(row.terms).terms)
        return Vote(person.actor, person.name, is_yes, reason, 0, rules)


def vote_refused(row: ApprovalRow, person: Person) -> ApprovalRefused | None:
    """Why a vote of the person's would be refused as things stand; None if it would count."""
    if row.state != State.PENDING:
        return already(row.state)
    if not is_as_asked(row):
        return ApprovalRefused("approval_altered", state=row.state)
    if has_voted(read_votes(row.votes), person.actor, person.name):
        return ApprovalRefused("already_voted", state=row.state)
    return has_no_say(row, person)


def has_no_say(row: ApprovalRow, person: Person) -> ApprovalRefused | None:
    """Why it is not the person's to decide; None if it is."""
    if is_own(row, person):
        return ApprovalRefused("own_approval", state=row.state)
    if not counts_for(person, read_terms(row.terms).terms):
        return ApprovalRefused("not_an_approver", state=row.state)
    return None


def _vote_refused(why: str) -> ApprovalRefused:
    if why == VOTED:
        return ApprovalRefused("already_voted")
    return ApprovalRefused("unknown_approval") if why == UNKNOWN else already(why)
