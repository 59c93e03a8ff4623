"""Finds what is kept of one agent's, user's or call's arguments, wherever it was copied to.

Knows: where copies are: beside receipts, in what approvals asked, in what alerts quoted and in all
that quotes those, in what sinks were told. All of it is found by ids and never by its text, so that
the same is found again when half of it is gone. What cannot be read, or told whose it is, is
counted and stays.
Must not know: how anything is erased, the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from sidecar.approvals.erasing import erased_text, is_about, is_erased, is_open
from sidecar.soc.deliveries import State, about
from sidecar.soc.erasing import (
    Quoting,
    completing,
    erased_alert,
    erased_containment,
)
from sidecar.soc.let_go import DETECTION
from storage.erasing import ErasedText
from storage.records import AFTER_ALL_IDS
from storage.retention import CareReader, Subject

if TYPE_CHECKING:
    from storage.sql_store import SqlReader
    from storage.watch_rows import AlertRow, DeliveryRow

R = TypeVar("R")
T = TypeVar("T")

_PAGE_ROWS: Final = 500
_NEWEST: Final = 2**62


@dataclass(slots=True)
class Found:
    """What is there to erase of a subject.

    `seqs` are receipts of the subject that have facts beside them; `approvals` says what is to
    stand in them instead, by id. `alerts` quote its calls: `beside` are receipts that tell of what
    they said and still have facts, `texts` what is to stand instead wherever they are quoted.
    `told` are deliveries of approvals, `quoted` those that quote alerts; `unsent` of both nobody
    had yet. `open_count` approvals stay, for they are needed; of `unknown` alerts it cannot be told
    whose call they quote; `unreadable` rows are none that the sidecar writes.
    """

    seqs: list[int] = field(default_factory=list)
    approvals: dict[str, str] = field(default_factory=dict)
    open_count: int = 0
    alerts: int = 0
    beside: list[int] = field(default_factory=list)
    texts: list[ErasedText] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    quoted: list[str] = field(default_factory=list)
    unsent: int = 0
    unknown: int = 0
    unreadable: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is left to erase."""
        return not (
            self.seqs or self.approvals or self.beside or self.texts or self.told or self.quoted
        )


async def search(reader: SqlReader, tenant: str, subject: Subject, until_seq: int) -> Found:
    """What is there to erase of a subject's calls up to `until_seq`, by now; of approvals, which
    name no receipt, all that nobody needs any more. Raises a StoreError of reading."""
    return await _Search(reader, tenant, subject, until_seq).made()


class _Search:
    """Of one subject, once."""

    def __init__(self, reader: SqlReader, tenant: str, subject: Subject, until_seq: int) -> None:
        self._reader = reader
        self._tenant = tenant
        self._subject = subject
        self._until_seq = until_seq
        self._found = Found()
        #: Approvals that say nothing any more, and those that are to.
        self._approvals: set[str] = set()
        self._quoting = Quoting()
        #: Incidents that say what alerts said.
        self._incidents: set[str] = set()

    async def made(self) -> Found:
        """All of it."""
        care, until_seq = CareReader(self._reader), self._until_seq
        seqs = await care.facts_about(self._tenant, self._subject, until_seq)
        self._found.seqs = seqs
        await self._look_at_approvals()
        await self._look_at_alerts()
        if self._quoting.alerts:
            await self._look_at_containments()
            await self._look_at_incidents()
            await self._look_at_changes(frozenset(seqs))
            await self._look_at_what_is_owed()
        if self._approvals or self._quoting.alerts:
            await self._look_at_deliveries()
        return self._found

    async def _look_at_approvals(self) -> None:
        found, before = self._found, AFTER_ALL_IDS
        while rows := await self._reader.approvals_before(self._tenant, before, _PAGE_ROWS):
            before = rows[-1].approval_id
            for row in rows:
                if not is_about(row, self._subject.kind, self._subject.name):
                    continue
                if is_open(row):
                    found.open_count += 1
                    continue
                self._approvals.add(row.approval_id)
                if not is_erased(row):
                    found.approvals[row.approval_id] = erased_text(row)

    async def _look_at_alerts(self) -> None:
        before = AFTER_ALL_IDS
        while rows := await self._reader.alerts_before(self._tenant, before, _PAGE_ROWS):
            before = rows[-1].alert_id
            for row in rows:
                quotes = await self._quotes(row)
                self._found.unknown += quotes is None
                if quotes:
                    self._quoting.alerts[row.alert_id] = row
        for row in self._quoting.alerts.values():
            self._found.alerts += self._put(erased_alert, row)

    async def _quotes(self, row: AlertRow) -> bool | None:
        """Whether an alert quotes a call of the subject; None if that cannot be told: the receipt
        is in an archive, or what the alert rests on cannot be read."""
        kind, name = self._subject.kind, self._subject.name
        if kind == "agent" and row.agent_id != name:
            return False
        try:
            rests_on = completing(row)
        except ValueError:
            return True if kind == "agent" else None
        if rests_on is None or rests_on.seq > self._until_seq:
            return False
        if kind == "agent":
            return True
        if not rests_on.call_id:
            return False
        if kind == "call":
            return rests_on.call_id == name
        receipts = await self._reader.receipts(self._tenant, rests_on.seq - 1, 1)
        if not receipts or receipts[0].seq != rests_on.seq:
            return None
        return receipts[0].user_id == name

    async def _look_at_containments(self) -> None:
        wanted, before = self._quoting.containment_ids(), AFTER_ALL_IDS
        while rows := await self._reader.containments_before(self._tenant, before, _PAGE_ROWS):
            before = rows[-1].containment_id
            for row in rows:
                if row.containment_id in wanted and row.actor.startswith(DETECTION):
                    self._quoting.containments.add(row.containment_id)
                    self._put(erased_containment, row)

    async def _look_at_incidents(self) -> None:
        for incident_id in self._quoting.incident_ids:
            row = await self._reader.incident(self._tenant, incident_id)
            if row is not None and self._read(self._quoting.of_incident, row):
                self._incidents.add(incident_id)
                self._put(self._quoting.erased_incident, row)

    async def _look_at_changes(self, known: frozenset[int]) -> None:
        before = _NEWEST
        while rows := await self._reader.audit_events(self._tenant, before, _PAGE_ROWS):
            before = rows[-1].seq
            for row in rows:
                if not self._read(self._quoting.tells, row):
                    continue
                self._put(self._quoting.erased_change, row)
                if row.seq not in known and await self._reader.call_facts(self._tenant, row.seq):
                    self._found.beside.append(row.seq)

    async def _look_at_what_is_owed(self) -> None:
        after = ("", "")
        while rows := await self._reader.watch_memories(self._tenant, after, _PAGE_ROWS):
            after = rows[-1].detection, rows[-1].subject
            for row in rows:
                self._put(self._quoting.erased_owed, row)

    async def _look_at_deliveries(self) -> None:
        before = AFTER_ALL_IDS
        while rows := await self._reader.deliveries_before(self._tenant, before, _PAGE_ROWS):
            before = rows[-1].delivery_id
            for row in rows:
                goes = self._read(self._which, row)
                if goes is not None:
                    goes.append(row.delivery_id)
                    self._found.unsent += row.state != State.DELIVERED

    def _which(self, row: DeliveryRow) -> list[str] | None:
        """Where a delivery belongs that goes; None of one that stays."""
        member, name = about(row)
        if member == "approval" and name in self._approvals:
            return self._found.told
        return self._found.quoted if self._quoting.was_told(row, self._incidents) else None

    def _put(self, made: Callable[[R], ErasedText | None], row: R) -> bool:
        """Whether there is a text to put in place of what a row says."""
        text = self._read(made, row)
        self._found.texts += [] if text is None else [text]
        return text is not None

    def _read(self, made: Callable[[R], T], row: R) -> T | None:
        """What is made of a row; None, and counted, of one that cannot be read."""
        try:
            return made(row)
        except ValueError:
            self._found.unreadable += 1
            return None
