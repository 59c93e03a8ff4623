"""A call asks for an approval, joins the one there is, and is held for the answer.

Knows: that an action has one open approval, which all its calls join; that a no stands as long
as the question would have. Nobody waits longer than he can be held for, then he is told to
ask again. When the sidecar stops, those who are held are let go and the approvals stay.
Must not know: HTTP, how a call is forwarded or an approver is known.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from sidecar.approvals.asked import Asked
from sidecar.approvals.deciding import Deciding
from sidecar.approvals.entries import (
    ASK,
    SIDECAR,
    SUPERSEDE,
)
from sidecar.approvals.links import KeepsState, Links
from sidecar.approvals.states import (
    OPEN,
    State,
    Term,
    Terms,
    closing,
    is_over,
    moved,
    opening,
    read_terms,
    read_votes,
    terms_text,
)
from sidecar.approvals.waiting import woken
from sidecar.errors import Refused
from storage.errors import QueueClosed, QueueFull, StoreError
from storage.records import Recorded
from storage.standing import ApprovalRow

if TYPE_CHECKING:
    from sidecar.approvals.changes import Changes
    from sidecar.clock import Clock
    from sidecar.config.model import Approvals as Settings
    from storage.protocol import ApprovalReader

#: When a caller who was told that his call waits should ask again.
RETRY_AFTER_S: Final = 5
#: How often a held caller is told that he still waits.
TELL_EVERY_S: Final = 5.0
#: How often something is begun anew because others changed it meanwhile.
TRIES_MAX: Final = 16

#: Told to a held caller, at once and again and again: the approval he waits for.
T = TypeVar("T")
Tell = Callable[[ApprovalRow], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asking:
    """What a call asks for. `until_ns` is the monotonic moment up to which it can be held."""

    tenant: str
    agent: str
    user: str
    call_id: str
    tool: str
    action_sha256: str
    asked: Asked
    terms: tuple[Term, ...]
    life_us: int
    until_ns: int
    tell: Tell


class Looked(NamedTuple):
    """What stands for an action: the open approval, and whether a yes was lost to a change of the
    rules when it was opened."""

    row: ApprovalRow
    is_outdated: bool = False


class Approvals:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        changes: Changes,
        reader: ApprovalReader,
        keeps: KeepsState,
        clock: Clock,
        *,
        url: str = "",
    ) -> None:
        """`url` is the base of the links that callers are given; "" gives none."""
        self._settings = settings
        self.changes = changes
        #: What people do.
        self.deciding = Deciding(changes, reader)
        #: By which people decide who have no key.
        self.links = Links(changes, keeps, clock)
        self._reader = reader
        self._clock = clock
        self._url = url
        #: By tenant, and by tenant and agent.
        self._opening: Counter[tuple[str, ...]] = Counter()
        self._is_closing = False
        #: Each is called with every approval that is opened here.
        self.on_opened: list[Callable[[ApprovalRow], None]] = []

    def close(self) -> None:
        """Lets go of those who are held, from now on too: the sidecar is to stop."""
        self._is_closing = True
        self.changes.waiting.wake_all()

    # -- calls -------------------------------------------------------------------------------

    async def hold(self, asking: Asking) -> ApprovalRow:
        """The approved approval of an action, not spent yet; waits for it as long as it may.

        Raises Refused: approval_pending, approval_rejected, approval_expired, approval_outdated,
        approval_withdrawn, approvals_full, shutting_down, or that the store cannot be asked.
        """
        try:
            looked = await self._look(asking)
            if looked.is_outdated:
                raise self._pending("approval_outdated", looked.row)
            return await self._wait(looked.row, asking)
        except StoreError as error:
            raise refused_by(error) from error

    async def _look(self, asking: Asking) -> Looked:
        """The open approval of the action, which is opened if there is none, or if what it asks
        for is not what the rules want now."""
        is_outdated, is_first = False, True
        for _ in range(TRIES_MAX):
            row = await self._reader.approval_of_action(asking.tenant, asking.action_sha256)
            if (
                row is not None
                and is_over(row, self.changes.now_us())
                and await self.changes.expire(row)
            ):
                row = None
            if row is not None:
                if read_terms(row.terms).terms == asking.terms:
                    return Looked(row, is_outdated)
                if await self._supersede(row):
                    is_outdated = is_outdated or row.state == State.APPROVED
                    is_first = False
                continue
            if is_first:
                await self._require_no_no(asking)
            row = await self.changes.whole(self._open(asking))
            if row is not None:
                return Looked(row, is_outdated)
        raise Refused("stale_decision")

    async def _require_no_no(self, asking: Asking) -> None:
        row = await self._reader.approval_rejected_last(asking.tenant, asking.action_sha256)
        if row is None or is_over(row, self.changes.now_us()):
            return
        if read_terms(row.terms).terms == asking.terms:
            raise self._ended(row)

    async def _open(self, asking: Asking) -> ApprovalRow | None:
        """A new approval; None if another call was quicker. Raises Refused("approvals_full")."""
        tenant = asking.tenant
        whose = ((tenant,), (tenant, asking.agent))
        self._opening.update(whose)
        try:
            await self._require_room(*whose)
            terms = Terms(asking.terms, asking.user, asking.asked.sha256)
            draft = ApprovalRow(
                tenant, self._clock.new_id(), 1, State.PENDING.value, asking.action_sha256,
                asking.agent, asking.call_id, asking.tool, terms_text(terms), asking.asked.text,
                "[]", 0, 0, 0, "",
            )  # fmt: skip
            step = opening(draft, asking.life_us)
            answer = await self.changes.change(draft, ASK, step, f"agent:{asking.agent}", draft)
            if not isinstance(answer, Recorded):
                return None
            row = await self._reader.approval(tenant, draft.approval_id)
        finally:
            self._opening.subtract(whose)
            for who in whose:
                if not self._opening[who]:
                    del self._opening[who]
        if row is not None:
            self.changes.register.opened(row)
            for hear in self.on_opened:
                hear(row)
        return row

    async def _require_room(self, tenant: tuple[str], agent: tuple[str, str]) -> None:
        """Raises Refused("approvals_full") where the one that is being opened would be too many: a
        quarter is left to the tenant's other agents, whatever one of them asks for."""
        most = self._settings.pending
        count = await self._reader.count_open_approvals(*tenant) + self._opening[tenant]
        if count > most:
            raise Refused("approvals_full", retry_after_s=RETRY_AFTER_S)
        most -= most // 4
        if count <= most:  # an agent has no more than its tenant
            return
        if await self._reader.count_open_approvals(*agent) + self._opening[agent] > most:
            reason = "Too many approvals of this agent are open"
            raise Refused("approvals_full", reason, retry_after_s=RETRY_AFTER_S)

    async def _supersede(self, row: ApprovalRow) -> bool:
        """Ends one whose rules have changed; False if it changed meanwhile."""
        step = closing(State.SUPERSEDED, row.version)
        after = moved(row, State.SUPERSEDED, self.changes.now_us())
        answer = await self.changes.change(
            row, SUPERSEDE, step, SIDECAR, after, "the rules have changed"
        )
        if isinstance(answer, Recorded):
            self.changes.ended_here(after)
        return isinstance(answer, Recorded)

    async def _wait(self, row: ApprovalRow, asking: Asking) -> ApprovalRow:
        key = (row.tenant_id, row.approval_id)
        waiting = self.changes.waiting
        with waiting.joined(key) as event:
            while True:
                event.clear()
                found = await self._reader.approval(*key)
                if found is None or found.state not in OPEN:
                    raise self._ended(found or row)
                if is_over(found, self.changes.now_us()) and await self.changes.expire(found):
                    continue
                if found.state == State.APPROVED and waiting.is_last(key, event):
                    return found
                if self._is_closing:
                    raise Refused("shutting_down")
                await self._idle(found, asking, event)

    async def _idle(self, row: ApprovalRow, asking: Asking, event: asyncio.Event) -> None:
        """Waits until something may have happened; raises Refused("approval_pending") when the
        caller can be held no longer."""
        while not event.is_set():
            left_s = (asking.until_ns - self._clock.monotonic_ns()) / 1e9
            life_s = (row.expires_at_us - self.changes.now_us()) / 1e6
            if left_s <= 0:
                raise self._pending("approval_pending", row)
            if life_s <= 0:
                return
            await asking.tell(row)
            await woken(event, min(left_s, life_s, TELL_EVERY_S))

    def spent(self, row: ApprovalRow) -> None:
        """A call went ahead by this one."""
        self.changes.ended_here(row._replace(state=State.SPENT.value))

    def facts_of(self, row: ApprovalRow) -> dict[str, str]:
        """What a caller's program is told of an approval."""
        facts = {"approval": row.approval_id}
        if self._url:
            facts["approval_url"] = f"{self._url}/v1/approvals/{row.approval_id}"
        return facts

    def _pending(self, code: str, row: ApprovalRow) -> Refused:
        left_s = max(1, (row.expires_at_us - self.changes.now_us()) // 1_000_000)
        return Refused(code, retry_after_s=min(RETRY_AFTER_S, int(left_s)), more=self.facts_of(row))

    def _ended(self, row: ApprovalRow) -> Refused:
        """What is said of an approval that ended while, or before, a call asked for it."""
        code = _CODES[row.state]
        reason = ""
        if row.state == State.REJECTED:
            said = [vote for vote in read_votes(row.votes) if not vote.is_yes]
            reason = said[-1].reason if said else ""
        return Refused(code, reason and f"An approver said no: {reason}", more=self.facts_of(row))


#: What a call meets whose approval ended so.
_CODES: Final[Mapping[str, str]] = {
    State.PENDING: "approval_pending",
    State.APPROVED: "approval_pending",
    State.REJECTED: "approval_rejected",
    State.EXPIRED: "approval_expired",
    State.SPENT: "approval_spent",
    State.WITHDRAWN: "approval_withdrawn",
    State.SUPERSEDED: "approval_outdated",
}


def refusal_code(why: str) -> str:
    """The code of a call whose yes the store would not have, by the word that it said."""
    return _CODES.get(why, "approval_outdated")


def refused_by(error: StoreError) -> Refused:
    """What a call meets where the store cannot be asked, or does not record."""
    if isinstance(error, QueueFull):
        return Refused("queue_full", retry_after_s=1, detail=error.code)
    if isinstance(error, QueueClosed):
        return Refused("shutting_down", detail=error.code)
    return Refused("store_unavailable", retry_after_s=1, detail=error.code)
