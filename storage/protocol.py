"""The store, by role: what the rooms above may ask of any back end.

Every verb is implemented once, in sql_store.py, over a Driver. Tenants are a required argument
wherever rows belong to one; the few verbs across tenants are jobs and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from storage.known_heads import Seen
from storage.records import (
    PAGE_BYTES,
    Answer,
    CallFactsRow,
    Entry,
    HeadRow,
    OpenIntentRow,
    ReceiptRow,
    RecordedEvent,
    RunHead,
    Seal,
)
from storage.standing import AgentRow, ApprovalRow, AuditRow, KeyRow, OnceRow, PinMark, PinRow
from storage.watch_rows import (
    AlertRow,
    ContainmentRow,
    DeliveryRow,
    IncidentRow,
    OpenDeliveries,
    Tally,
    UnrecordedRow,
    WatchMark,
    WatchMemory,
)


class RecordStore(Protocol):
    """Writes. Only the write queue calls it."""

    async def record(self, entries: Sequence[Entry], seal: Seal) -> list[Answer]:
        """One transaction for all entries; one answer per entry, in order.

        Guards are checked under the head locks (taken in sorted tenant order). Returns after
        COMMIT. Raises a StoreError, and then nothing was committed, or CommitUnknown.
        """
        ...

    async def after_commit(self) -> None:
        """Upkeep that must not delay waiters (SQLite: a checkpoint step every few batches)."""
        ...

    async def raise_epoch(self, tenant_id: str) -> int:
        """Makes every decision in flight of this tenant stale; gives the new epoch."""
        ...


class LedgerReader(Protocol):
    """Reads of the ledger, on connections of their own; never slows a decision."""

    async def head(self, tenant_id: str) -> HeadRow:
        """The tenant's head; seq 0 if nothing was recorded."""
        ...

    async def tenants(self) -> list[str]:
        """Job across tenants: every tenant that has a head, sorted."""
        ...

    async def receipts(self, tenant_id: str, after_seq: int, limit: int) -> list[ReceiptRow]:
        """Receipts with seq > after_seq, oldest first, at most `limit`."""
        ...

    async def receipts_of_call(self, tenant_id: str, call_id: str) -> list[ReceiptRow]:
        """The intent or refusal of a call, and its outcome if there is one, oldest first."""
        ...

    async def call_facts(self, tenant_id: str, seq: int) -> CallFactsRow | None:
        """The facts beside a receipt; None if there are none or they were erased."""
        ...

    async def run_head(self, tenant_id: str, run_key: str) -> RunHead:
        """Version and state of a run; 0 and "" of which nothing is kept."""
        ...

    async def tool_marks(self, tenant_id: str, upstream: str) -> list[PinMark]:
        """What the tools of an MCP server are pinned to, by hash; sorted by tool."""
        ...

    async def tool_pins(self, tenant_id: str, upstream: str) -> list[PinRow]:
        """The same with the definitions; sorted by tool."""
        ...

    async def tool_pin(self, tenant_id: str, upstream: str, tool: str) -> PinRow | None:
        """One of them, with its definition."""
        ...

    async def pinned_upstreams(self) -> list[tuple[str, str]]:
        """Job across tenants: tenants and upstreams that have pins, sorted."""
        ...

    async def open_intents(self, node_id: str, limit: int) -> list[OpenIntentRow]:
        """Job across tenants: open intents of this node, any boot, at most `limit`."""
        ...


class RegistryReader(Protocol):
    """Reads of who may call and who may decide, and of who changed that."""

    async def epochs(self) -> dict[str, int]:
        """Job across tenants: the epoch of every tenant that has a head."""
        ...

    async def agents(self, tenant_id: str) -> list[AgentRow]:
        """The tenant's agents of whom the store keeps anything, sorted by id."""
        ...

    async def api_keys(self, tenant_id: str) -> list[KeyRow]:
        """The tenant's keys in any state, sorted by id."""
        ...

    async def audit_events(
        self,
        tenant_id: str,
        before_seq: int,
        limit: int,
        *,
        actor: str = "",
        action: str = "",
        subject: str = "",
    ) -> list[AuditRow]:
        """Changes of state with seq < before_seq, newest first, at most `limit`; "" is any."""
        ...


class ApprovalReader(Protocol):
    """Reads of approvals."""

    async def approval(self, tenant_id: str, approval_id: str) -> ApprovalRow | None:
        """One approval; None if the tenant has none of that id."""
        ...

    async def approval_of_action(self, tenant_id: str, action_sha256: str) -> ApprovalRow | None:
        """The one that is pending or approved for this very action."""
        ...

    async def approval_rejected_last(
        self, tenant_id: str, action_sha256: str
    ) -> ApprovalRow | None:
        """The newest that was rejected for this very action."""
        ...

    async def approvals_decided(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Job across tenants: of these, tenant and id, those that are pending no more; only on a
        store that several processes share."""
        ...

    async def open_approvals(self, tenant_id: str, after_id: str, limit: int) -> list[ApprovalRow]:
        """Pending and approved ones with id > after_id, oldest first, at most `limit`."""
        ...

    async def approvals_before(
        self, tenant_id: str, before_id: str, limit: int
    ) -> list[ApprovalRow]:
        """In any state, with id < before_id, newest first, at most `limit`."""
        ...

    async def approval_granted_before(
        self, tenant_id: str, before_id: str, agent_id: str, tool: str, looked_at: int
    ) -> ApprovalRow | None:
        """The newest of an agent and a tool with id < before_id that got its yes and was not left
        to expire, among the `looked_at` newest of the tenant."""
        ...

    async def count_open_approvals(self, tenant_id: str, agent_id: str = "") -> int:
        """How many are pending or approved, of one agent or ("") of any."""
        ...


class OnceStore(Protocol):
    """What agents may say only once: read here, put with the entry that says it."""

    async def said_once(
        self, tenant_id: str, agent_id: str, kind: str, name: str
    ) -> OnceRow | None:
        """What was said of this kind and name, over or not; None if nothing is known of it."""
        ...

    async def forget_said(self, tenant_id: str, at_us: int) -> int:
        """Forgets some of what says nothing any more, by the server's clock where there is one;
        gives how many."""
        ...


class WatchReader(Protocol):
    """Reads of what is noticed in the record, what is contained and who is told. Lists give at
    most `limit` rows; newest first, those with an id below `before_id`; "" is any."""

    async def heads_seen(self) -> dict[str, Seen]:
        """Job across tenants: where every chain ends."""
        ...

    async def recorded_after(
        self, tenant_id: str, after_seq: int, limit: int, bytes_max: int = PAGE_BYTES
    ) -> list[RecordedEvent]:
        """Receipts with seq > after_seq, oldest first, with the facts beside them: at most `limit`,
        and none after the one at which facts reach `bytes_max`."""
        ...

    async def watch_mark(self, tenant_id: str, watcher: str) -> WatchMark | None:
        """How far a watcher has come; None if it never began."""
        ...

    async def watch_memories(
        self, tenant_id: str, after: tuple[str, str], limit: int
    ) -> list[WatchMemory]:
        """What detections remember, by (detection, subject), after a given pair."""
        ...

    async def alert(self, tenant_id: str, alert_id: str) -> AlertRow | None:
        """One alert."""
        ...

    async def alerts_quiet(self, tenant_id: str, at_us: int, limit: int) -> list[AlertRow]:
        """Alerts that hits after `at_us` may still join."""
        ...

    async def alerts_before(
        self,
        tenant_id: str,
        before_id: str,
        limit: int,
        *,
        state: str = "",
        severity: str = "",
        detection: str = "",
        agent: str = "",
    ) -> list[AlertRow]:
        """Alerts, newest first."""
        ...

    async def alerts_of_incident(
        self, tenant_id: str, incident_id: str, after_id: str, limit: int
    ) -> list[AlertRow]:
        """An incident's alerts, oldest first."""
        ...

    async def control_subjects(
        self, tenant_id: str, after_seq: int, until_seq: int
    ) -> list[tuple[int, str]]:
        """Receipts of the kind control with after_seq < seq <= until_seq, oldest first, and what
        each is about; not those that are about nothing."""
        ...

    async def tally_alerts(self, tenant_id: str) -> list[Tally]:
        """How many alerts there are, by state and severity."""
        ...

    async def tally_incidents(self, tenant_id: str) -> list[Tally]:
        """How many incidents there are, by state and severity."""
        ...

    async def incident(self, tenant_id: str, incident_id: str) -> IncidentRow | None:
        """One incident."""
        ...

    async def open_incidents(self, tenant_id: str, limit: int) -> list[IncidentRow]:
        """Incidents that are not closed, newest first."""
        ...

    async def incidents_before(
        self,
        tenant_id: str,
        before_id: str,
        limit: int,
        *,
        state: str = "",
        severity: str = "",
        agent: str = "",
    ) -> list[IncidentRow]:
        """Incidents, newest first."""
        ...

    async def containment(self, tenant_id: str, containment_id: str) -> ContainmentRow | None:
        """One containment."""
        ...

    async def active_containments(self, tenant_id: str) -> list[ContainmentRow]:
        """All that are active, oldest first; some of them may be over by their time."""
        ...

    async def containments_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", action: str = ""
    ) -> list[ContainmentRow]:
        """Containments, newest first."""
        ...

    async def delivery(self, tenant_id: str, delivery_id: str) -> DeliveryRow | None:
        """One delivery."""
        ...

    async def deliveries_due(
        self, tenant_id: str, sink: str, at_us: int, limit: int
    ) -> list[DeliveryRow]:
        """What a sink is to be told by `at_us`, what is due longest first."""
        ...

    async def sinks_due(self, at_us: int) -> list[tuple[str, str]]:
        """Job across tenants: tenants and sinks that have something due by `at_us`, sorted."""
        ...

    async def deliveries_least(self, tenant_id: str, limit: int) -> list[DeliveryRow]:
        """Waiting ones, the least severe first, of those the oldest."""
        ...

    async def deliveries_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", sink: str = ""
    ) -> list[DeliveryRow]:
        """Deliveries, newest first."""
        ...

    async def count_open_deliveries(self, tenant_id: str) -> list[OpenDeliveries]:
        """How many wait, and how many are given up, by sink."""
        ...

    async def count_every_open_delivery(self) -> list[OpenDeliveries]:
        """Job across tenants: the same of every tenant, sorted."""
        ...


class WatchStore(WatchReader, Protocol):
    """Writes that no receipt commits to. Alerts, incidents and containments go with an entry."""

    async def put_rows(self, tenant_id: str, rows: Sequence[UnrecordedRow]) -> bool:
        """Puts all of these, each one version after what stands or as the first; or none, and then
        gives False: somebody else was faster."""
        ...

    async def clock_us(self) -> int:
        """Now, by the server's clock where there is one."""
        ...

    async def forget_memories(self, tenant_id: str, at_us: int) -> int:
        """Forgets some of what detections remember and says nothing any more; gives how many."""
        ...

    async def forget_delivered(self, tenant_id: str, before_us: int) -> int:
        """Forgets some of what was delivered before a time; gives how many."""
        ...

    async def forget_dead(self, tenant_id: str, before_us: int) -> int:
        """Forgets some of what was given up before a time; gives how many."""
        ...

    async def forget_oldest_dead(self, tenant_id: str, count: int) -> int:
        """Forgets some of the `count` oldest that were given up; gives how many."""
        ...


class Store(
    RecordStore, LedgerReader, RegistryReader, ApprovalReader, OnceStore, WatchStore, Protocol
):
    """All roles, and the life of the store itself."""

    node_id: str

    async def kept(self, name: str) -> str | None:
        """What `keep` keeps by that name; None while it keeps nothing."""
        ...

    async def keep(self, name: str, value: str) -> str:
        """Keeps a named value for good unless one is kept, and gives the one that is: the same on
        every node, and in every store that this one is moved or copied to."""
        ...

    async def probe(self) -> None:
        """Proves that a commit would succeed now (a real, tiny one); raises StoreError."""
        ...

    async def close(self) -> None:
        """Idempotent. Later calls raise StoreUnavailable."""
        ...
