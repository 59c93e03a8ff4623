"""Which policy set is in force is on record, before it is: an audit event in each tenant's chain.

Knows: that a set which is not on record of every tenant is not put in force; that what a tenant's
record says is compared with what is in force again and again, so that a change while nothing ran,
or one that was told and then did not come, is told too; that a new store needs no event, for each
receipt names the revision that decided.
Must not know: files, what policies mean.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.ledger.policy_entries import LOADED, REFUSED, SUBJECT, Told, policy_entry
from sidecar.policy.in_force import InForce
from storage.errors import StoreError
from storage.records import Answer, Entry, HeadRow, ReceiptRow, Recorded
from storage.standing import AuditRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.fence import Fence

#: Refusals that could not be told yet, at most of a tenant; the oldest gives way.
OWED_MAX: Final = 16
#: In so many of a tenant's newest receipts it is looked for the revision that decided last.
RECEIPTS_READ: Final = 200
_NEWEST: Final = 2**62

_log = logging.getLogger("aegis.policy")


class Reads(Protocol):
    """What is needed of a store."""

    async def head(self, tenant_id: str) -> HeadRow:
        """Where a tenant's chain ends."""
        ...

    async def receipts(self, tenant_id: str, after_seq: int, limit: int) -> list[ReceiptRow]:
        """Receipts with seq > after_seq, oldest first."""
        ...

    async def audit_events(
        self, tenant_id: str, before_seq: int, limit: int, *, actor: str = "", action: str = "",
        subject: str = "",
    ) -> list[AuditRow]:  # fmt: skip
        """Changes of state, newest first."""
        ...


class Submits(Protocol):
    """The write queue."""

    async def submit(self, entry: Entry) -> Answer:
        """Waits until the entry is durable; raises a StoreError."""
        ...


class PolicyRecord:
    """For all tenants of a sidecar; used by one task at a time. `node` is told beside a set, since
    each of several sidecars loads for itself."""

    def __init__(
        self,
        tenants: Iterable[str],
        store: Reads,
        queue: Submits,
        clock: Clock,
        fence: Fence,
        *,
        node: str,
    ) -> None:
        self._tenants = tuple(tenants)
        self._store = store
        self._queue = queue
        self._clock = clock
        self._fence = fence
        self._node = node
        #: What each tenant's record says last; None of one that says nothing.
        self._said: dict[str, dict[str, Any] | None] = {}
        self._owed: deque[tuple[str, Told]] = deque(maxlen=OWED_MAX * len(self._tenants))

    async def loaded(self, now: InForce, actor: str, reason: str) -> str:
        """Puts on record that `now` is in force, where the record says otherwise; "" once it is
        durable for every tenant, otherwise why it is not."""
        try:
            for tenant in self._tenants:
                if tenant not in self._said:
                    self._said[tenant] = await self._known(tenant, now)
            behind = [one for one in self._tenants if not now.is_as(self._said[one])]
            after = now.shown() | {"node": self._node}
            told = {
                one: Told(LOADED, actor, self._said[one], after, reason)
                for one in behind
            }  # fmt: skip
            return await self._settle() or await self._tell(told)
        except StoreError as error:
            return f"{error.code}: {error}"

    async def refused(self, now: InForce, problems: int, actor: str, reason: str) -> None:
        """Puts on record that a broken set was not taken and `now` stays; what cannot be told is
        told with what comes next."""
        after = now.shown() | {"node": self._node, "problems": problems}
        if len(self._owed) > (OWED_MAX - 1) * len(self._tenants):
            _log.error("a refused policy set is not put on record: too many wait for the store")
        told = Told(REFUSED, actor, now.shown() | {"node": self._node}, after, reason)
        self._owed.extend((tenant, told) for tenant in self._tenants)
        try:
            why = await self._settle()
        except StoreError as error:
            why = f"{error.code}: {error}"
        if why:
            _log.error(
                "a refused policy set is not on record yet, and will be", extra={"cause": why}
            )

    async def _known(self, tenant: str, now: InForce) -> dict[str, Any] | None:
        """What the record says is in force; what is, where nothing was decided yet."""
        events = await self._store.audit_events(tenant, _NEWEST, 1, action=LOADED, subject=SUBJECT)
        if events:
            try:
                said = json.loads(events[0].after_state)
            except ValueError:
                return None
            return said if isinstance(said, dict) else None
        head = await self._store.head(tenant)
        rows = await self._store.receipts(tenant, max(0, head.seq - RECEIPTS_READ), RECEIPTS_READ)
        revision = next((row.policy_revision for row in reversed(rows) if row.policy_revision), "")
        return now.shown() if revision in ("", now.revision) else {"revision": revision}

    async def _settle(self) -> str:
        """Tells what is owed; "" if nothing is left."""
        while self._owed:
            tenant, told = self._owed[0]
            why = await self._tell({tenant: told})
            if why:
                return why
            self._owed.popleft()
        return ""

    async def _tell(self, told: dict[str, Told]) -> str:
        """As `loaded` says of what it tells. A tenant whose chain takes nothing has no calls
        either, and keeps nobody else from it. Raises a StoreError."""
        if not told:
            return ""
        if self._fence.is_up:
            return f"store_fenced: {self._fence.sentence()}"
        answers = await asyncio.gather(
            *(self._queue.submit(policy_entry(self._clock, *one)) for one in told.items()),
            return_exceptions=True,
        )
        failed: BaseException | None = None
        for (tenant, one), answer in zip(told.items(), answers, strict=True):
            if isinstance(answer, BaseException):
                failed = answer
                continue
            if not isinstance(answer, Recorded):
                _log.error(
                    "which policies are in force cannot be recorded",
                    extra={"cause": str(answer), "detail": f"tenant {tenant}"},
                )
            if one.action == LOADED:
                self._said[tenant] = one.after
        if failed is not None:
            raise failed
        return ""
