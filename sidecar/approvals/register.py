"""The open approvals as this process knows them, for its numbers and for the one that ends next.

Knows: that the store has the word; here only what it would take to ask it all the time.
Must not know: the store, what a decision means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

from sidecar.approvals.states import State
from sidecar.telemetry.counters import Histogram
from storage.standing import ApprovalRow

DECISION_BUCKETS_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
#: What an approval can come to, as metrics name it.
RESULTS: Final = (
    State.APPROVED, State.REJECTED, State.EXPIRED, State.SPENT, State.WITHDRAWN, State.SUPERSEDED,
)  # fmt: skip

Key = tuple[str, str]


class Open(NamedTuple):
    """One that is open: since when, until when, and whether a person has still to answer."""

    asked_at_us: int
    expires_at_us: int
    is_pending: bool


class Register:
    """One for a sidecar; bounded by what may be open at once."""

    def __init__(self) -> None:
        self._open: dict[Key, Open] = {}
        #: Set when something was opened: the next end may be another.
        self.changed = asyncio.Event()
        self.results: dict[str, int] = dict.fromkeys((state.value for state in RESULTS), 0)
        self.decision_seconds = Histogram(DECISION_BUCKETS_S)

    def opened(self, row: ApprovalRow) -> None:
        """One more."""
        self._open[row.tenant_id, row.approval_id] = _open(row)
        self.changed.set()

    def learn(self, tenant: str, rows: Iterable[ApprovalRow]) -> None:
        """The open ones of a tenant, as the store has them."""
        for key in [key for key in self._open if key[0] == tenant]:
            del self._open[key]
        for row in rows:
            self._open[tenant, row.approval_id] = _open(row)

    def decided(self, row: ApprovalRow, at_us: int) -> None:
        """It came to something: counted; the time to it only where a person answered."""
        self.results[row.state] = self.results.get(row.state, 0) + 1
        if row.state in (State.APPROVED, State.REJECTED):
            self.decision_seconds.observe_ns(max(0, at_us - row.asked_at_us) * 1000)
        key = (row.tenant_id, row.approval_id)
        if key in self._open:
            self._open[key] = self._open[key]._replace(is_pending=False)

    def forget(self, key: Key) -> None:
        """It is open no more."""
        self._open.pop(key, None)

    def next_end_us(self) -> int | None:
        """When the next one ends, by the store's clock."""
        return min((one.expires_at_us for one in self._open.values()), default=None)

    def over(self, at_us: int) -> list[Key]:
        """Those whose time has run out."""
        return [key for key, one in self._open.items() if at_us >= one.expires_at_us]

    @property
    def pending(self) -> int:
        """How many wait for a person."""
        return sum(one.is_pending for one in self._open.values())

    def oldest_age_s(self, at_us: int) -> float:
        """How long the oldest of those has waited."""
        asked = [one.asked_at_us for one in self._open.values() if one.is_pending]
        return max(0.0, (at_us - min(asked)) / 1e6) if asked else 0.0


def _open(row: ApprovalRow) -> Open:
    return Open(row.asked_at_us, row.expires_at_us, row.state == State.PENDING)
