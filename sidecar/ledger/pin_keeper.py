"""What MCP servers said of their tools, kept: pinned when first seen, compared ever after.

Knows: that the store has the word, one pin per tenant, upstream and tool; that what is first seen
is trusted, and on record; that a definition which differs from its pin is drift, from the moment a
list shows it until a list shows the pinned one again or somebody accepts it. Every change of a pin
stands or falls with a receipt of kind `control`, and rests on the version it was compared with.
Where several processes write, what one finds the others know within `AGE_MAX_S`.
Must not know: lists, how a tool is hidden or its arguments are checked, HTTP, the command line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.ledger.pin_announcements import Announcements
from sidecar.ledger.pin_checks import AnyCheck, PinChecks
from sidecar.ledger.pin_entries import (
    ACCEPTED,
    DRIFTED,
    FORGOTTEN,
    PINNED,
    RETURNED,
    SOCKET_ACTOR,
    PinChange,
    pin_entry,
)
from sidecar.ledger.pin_news import News, news_of
from storage.errors import StoreError
from storage.records import Answer, Recorded
from storage.standing import PinMark, PinRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.fence import Fence
    from sidecar.ledger.tool_definition import Definition
    from storage.records import Entry

_log = logging.getLogger("aegis.pins")

#: Where several processes write to one store, what is known of pins is read again after this.
AGE_MAX_S: Final = 5.0
#: Tools of one upstream whose definitions are kept for one tenant; what a list names beyond that is
#: not pinned, and not shown.
TOOLS_MAX: Final = 2048
#: How often a comparison begins anew: after it changed a pin, or somebody else did.
TRIES_MAX: Final = 8


class PinsUnknown(Exception):
    """What a server says cannot be compared or kept: `code` is stable, the text says why."""

    def __init__(self, code: str, reason: str, next_step: str = "Try again in a moment.") -> None:
        super().__init__(reason)
        self.code = code
        self.next_step = next_step


class ReadsPins(Protocol):
    """What is needed of a store."""

    async def tool_marks(self, tenant_id: str, upstream: str) -> list[PinMark]:
        """Pins by hash."""
        ...

    async def tool_pins(self, tenant_id: str, upstream: str) -> list[PinRow]:
        """Pins with definitions."""
        ...

    async def tool_pin(self, tenant_id: str, upstream: str, tool: str) -> PinRow | None:
        """One of them."""
        ...


class Submits(Protocol):
    """What is needed of the write queue."""

    async def submit(self, entry: Entry) -> Answer:
        """Makes an entry durable; raises StoreError."""
        ...


@dataclass(slots=True)
class Known:
    """The pins of one tenant and upstream, as this process last read or left them; for others to
    read. `checks` are those of tools that were asked for since (`PinKeeper.check`)."""

    marks: dict[str, PinMark]
    read_ns: int
    drifted: frozenset[str] = frozenset()
    checks: dict[str, AnyCheck] = field(default_factory=dict)

    def settle(self) -> None:
        """Works out which tools have drifted."""
        self.drifted = frozenset(one.tool for one in self.marks.values() if one.seen_sha256)


class PinKeeper:
    """One for a sidecar. All is done on the event loop's thread."""

    def __init__(
        self, store: ReadsPins, queue: Submits, clock: Clock, fence: Fence, *, is_alone: bool
    ) -> None:
        """`is_alone` says that no other process writes to the store."""
        self._store = store
        self._queue = queue
        self._clock = clock
        self._fence = fence
        self._age_max_ns = None if is_alone else int(AGE_MAX_S * 1e9)
        self._known: dict[tuple[str, str], Known] = {}
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self._crowded: set[tuple[str, str]] = set()
        #: Whose lists are owed.
        self.announced = Announcements()
        #: What arguments of pinned tools are held against.
        self.checks = PinChecks(store)
        #: Drifts this process found, by upstream.
        self.drifts_total: dict[str, int] = {}

    def drifted_by_upstream(self) -> dict[str, int]:
        """How many tools are hidden because they drifted, as far as this process has looked."""
        counts: dict[str, int] = {}
        for (_, upstream), known in self._known.items():
            counts[upstream] = counts.get(upstream, 0) + len(known.drifted)
        return counts

    def known(self, tenant: str, upstream: str) -> Known | None:
        """What is known of the pins; None if the store has to be asked (`drifted`)."""
        known = self._known.get((tenant, upstream))
        return None if known is None or self._is_old(known) else known

    async def drifted(self, tenant: str, upstream: str) -> frozenset[str]:
        """The same, from the store. Raises PinsUnknown."""
        async with self._turn(tenant, upstream):
            return (await self._fresh(tenant, upstream)).drifted

    async def definition_sha256(self, tenant: str, upstream: str, tool: str) -> str:
        """The hash of what the tool is pinned to; "" if it is not pinned. Raises PinsUnknown."""
        async with self._turn(tenant, upstream):
            mark = (await self._fresh(tenant, upstream)).marks.get(tool)
        return "" if mark is None else mark.sha256

    async def check(self, tenant: str, upstream: str, tool: str) -> AnyCheck | None:
        """What arguments of the tool are held against; None if it is not pinned. From then on it is
        `known`. Raises PinsUnknown."""
        async with self._turn(tenant, upstream):
            for _ in range(TRIES_MAX):
                known = await self._fresh(tenant, upstream)
                mark = known.marks.get(tool)
                if mark is None:
                    return None
                check = known.checks.get(tool)
                if check is None:
                    try:
                        check = await self.checks.of(tenant, upstream, mark)
                    except StoreError as error:
                        raise PinsUnknown(error.code, str(error), error.next_step) from error
                if check is not None:
                    known.checks[tool] = check
                    return check
                del self._known[tenant, upstream]  # somebody else has changed the pin
        raise PinsUnknown("stale_pins", "the pins kept changing meanwhile")

    async def compare(
        self,
        tenant: str,
        agent: str,
        upstream: str,
        definitions: Sequence[Definition],
        call_id: str,
    ) -> frozenset[str]:
        """Compares what a list says with the pins, puts what is new on record, and gives the tools
        that must not be shown: those that have drifted by then, and those there is no room for.

        Raises PinsUnknown, and then nothing of the list is trustworthy.
        """
        async with self._turn(tenant, upstream):
            for _ in range(TRIES_MAX):
                known = await self._fresh(tenant, upstream)
                news = news_of(known.marks, definitions)
                crowded_out = news.crowded_out(TOOLS_MAX - len(known.marks))
                if not (news.first or news.other or news.again):
                    if crowded_out:
                        self._tell_of_crowd(tenant, upstream, len(crowded_out))
                    return known.drifted | crowded_out
                changes, before = await self._changes(tenant, upstream, news)
                said: dict[str, Any] = {"call_id": call_id}
                entry = pin_entry(
                    self._clock, tenant, upstream, agent, changes, said, before=before
                )
                if await self._put(tenant, upstream, changes, entry):
                    self._tell(upstream, news)
        raise PinsUnknown("stale_pins", "the pins kept changing meanwhile")

    async def pins(self, tenant: str, upstream: str) -> list[PinRow]:
        """All pins of one tenant and upstream, with definitions. Raises PinsUnknown."""
        try:
            return await self._store.tool_pins(tenant, upstream)
        except StoreError as error:
            raise PinsUnknown(error.code, str(error), error.next_step) from error

    async def accept(
        self,
        tenant: str,
        upstream: str,
        rows: Iterable[PinRow],
        reason: str,
        actor: str = SOCKET_ACTOR,
    ) -> int:
        """Makes what was last seen of these tools what they are pinned to, on record as done by
        `actor`; the receipt's number.

        The rows are as they were read; raises PinsUnknown if one has changed since.
        """
        before = list(rows)
        now_us = self._clock.now_us()
        changes = [_accepted(row, now_us) for row in before]
        return await self._by_hand(tenant, upstream, changes, before, reason, actor)

    async def forget(
        self, tenant: str, upstream: str, rows: Iterable[PinRow], reason: str, actor: str
    ) -> int:
        """Unpins these tools, on record as done by `actor`; the receipt's number. What a list says
        of them next is first seen.

        The rows are as they were read; raises PinsUnknown if one has changed since.
        """
        before = list(rows)
        changes = [PinChange(FORGOTTEN, row) for row in before]
        seq = await self._by_hand(tenant, upstream, changes, before, reason, actor)
        self._crowded.discard((tenant, upstream))
        return seq

    async def _by_hand(
        self,
        tenant: str,
        upstream: str,
        changes: Sequence[PinChange],
        before: Sequence[PinRow],
        reason: str,
        actor: str,
    ) -> int:
        said = {"reason": reason, "actor": actor}
        entry = pin_entry(self._clock, tenant, upstream, None, changes, said, actor, before)
        async with self._turn(tenant, upstream):
            seq = await self._put(tenant, upstream, changes, entry)
        if seq is None:
            raise PinsUnknown(
                "stale_pins",
                f"a definition has changed since it was looked at; nothing was {changes[0].what}",
                "Look again with `tools diff`.",
            )
        return seq

    # -- what is known -----------------------------------------------------------------------

    def _turn(self, tenant: str, upstream: str) -> asyncio.Lock:
        """One after the other, for each tenant and upstream; both stand in the configuration."""
        return self._turns.setdefault((tenant, upstream), asyncio.Lock())

    def _is_old(self, known: Known) -> bool:
        if self._age_max_ns is None:
            return False
        return self._clock.monotonic_ns() - known.read_ns > self._age_max_ns

    async def _fresh(self, tenant: str, upstream: str) -> Known:
        known = self._known.get((tenant, upstream))
        if known is not None and not self._is_old(known):
            return known
        read_ns = self._clock.monotonic_ns()
        try:
            marks = await self._store.tool_marks(tenant, upstream)
        except StoreError as error:
            raise PinsUnknown(error.code, str(error), error.next_step) from error
        known = self._known[tenant, upstream] = Known({one.tool: one for one in marks}, read_ns)
        known.settle()
        self.drifts_total.setdefault(upstream, 0)
        return known

    async def _changes(
        self, tenant: str, upstream: str, news: News
    ) -> tuple[list[PinChange], list[PinRow]]:
        """What is to change, and the pins that stand by now of what does."""
        now_us = self._clock.now_us()
        changes = [
            PinChange(PINNED, PinRow(tenant, upstream, one.tool, 1, one.text, one.sha256, now_us))
            for one in news.first
        ]
        if not (news.other or news.again):
            return changes, []
        rows = {row.tool: row for row in await self.pins(tenant, upstream)}
        for one in news.other:
            row = rows.get(one.tool)
            if row is not None:
                row = row._replace(
                    version=row.version + 1,
                    seen=one.text,
                    seen_sha256=one.sha256,
                    seen_at_us=now_us,
                )
                changes.append(PinChange(DRIFTED, row))
        for tool in news.again:
            row = rows.get(tool)
            if row is not None:
                changes.append(PinChange(RETURNED, _unseen(row)))
        return changes, [rows[one.row.tool] for one in changes if one.row.tool in rows]

    async def _put(
        self,
        tenant: str,
        upstream: str,
        changes: Sequence[PinChange],
        entry: Entry,
    ) -> int | None:
        """The number of the receipt that tells of the changes; None if one of them does not fit
        what stands by now, which is then read again."""
        if self._fence.is_up:
            raise PinsUnknown("store_fenced", "the store stands still", self._fence.sentence())
        known = self._known.pop((tenant, upstream), None)
        try:
            answer = await self._queue.submit(entry)
        except StoreError as error:
            raise PinsUnknown(error.code, str(error), error.next_step) from error
        if not isinstance(answer, Recorded):
            return None
        if known is not None:
            for one in changes:
                row = one.row
                mark = PinMark(row.tool, row.version, row.sha256, row.seen_sha256)
                known.marks[row.tool] = mark
                known.checks.pop(row.tool, None)
                if one.what == FORGOTTEN:
                    del known.marks[row.tool]
            known.settle()
            self._known[tenant, upstream] = known
        return answer.seq

    def _tell_of_crowd(self, tenant: str, upstream: str, count: int) -> None:
        if (tenant, upstream) not in self._crowded:
            self._crowded.add((tenant, upstream))
            _log.warning(
                "an MCP server has shown more tools than are kept; the others are hidden: `tools "
                "forget` makes room",
                extra={"upstream": upstream, "count": count},
            )

    def _tell(self, upstream: str, news: News) -> None:
        for one in news.other:
            self.drifts_total[upstream] += 1
            _log.warning(
                "an MCP tool is not what it was: hidden and refused until somebody accepts "
                "it; `tools diff` shows what has changed",
                extra={"tool": f"{upstream}/{one.tool}"},
            )
        for tool in news.again:
            _log.warning(
                "an MCP tool that had drifted is what it was again",
                extra={"tool": f"{upstream}/{tool}"},
            )


def _unseen(row: PinRow) -> PinRow:
    return row._replace(version=row.version + 1, seen="", seen_sha256="", seen_at_us=0)


def _accepted(row: PinRow, now_us: int) -> PinChange:
    accepted = row._replace(definition=row.seen, sha256=row.seen_sha256, at_us=now_us)
    return PinChange(ACCEPTED, _unseen(accepted))
