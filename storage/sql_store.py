"""Every verb of storage.protocol, once, over a Driver.

Knows: which statement answers which question, and how rows become records. Must not know: the
engine, receipts' meaning, or who asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from storage.driver import Driver, Row, Script, StoreFacts, fetch
from storage.errors import NodeHeld
from storage.guards import NO_RUN
from storage.known_heads import KnownHeads, LostHead, Seen, asked, check_heads, lost_among
from storage.record_batch import (
    ODDITIES,
    Done,
    empty_head,
    record_each,
    record_group,
    record_remembered,
)
from storage.records import (
    Answer,
    CallFactsRow,
    Entry,
    HeadRow,
    OpenIntentRow,
    ReceiptRow,
    RunHead,
    Seal,
)
from storage.remembered import RememberedHeads
from storage.standing import AgentRow, ApprovalRow, AuditRow, KeyRow, OnceRow, PinMark, PinRow
from storage.watch_reads import WatchReads
from storage.watch_writes import WatchWrites

#: A few milliseconds of a disk.
BUCKETS_DROPPED_AT_ONCE = 500
SAID_FORGOTTEN_AT_ONCE = 500
#: Before the names of values that move along with a store.
KEPT = "keep:"


class SqlReader(WatchReads):
    """Every reader of storage.protocol."""

    async def head(self, tenant_id: str) -> HeadRow:
        """See `LedgerReader.head`."""
        rows = await self._reads.fetch(self._sql["head"], tenant_id, tenant=tenant_id)
        return HeadRow(*rows[0]) if rows else empty_head(tenant_id)

    async def tenants(self) -> list[str]:
        """See `LedgerReader.tenants`."""
        return sorted(row[0] for row in await self._reads.fetch(self._sql["tenants"]))

    async def receipts(self, tenant_id: str, after_seq: int, limit: int) -> list[ReceiptRow]:
        """See `LedgerReader.receipts`."""
        sql = self._sql["receipts"]
        rows = await self._reads.fetch(sql, tenant_id, after_seq, limit, tenant=tenant_id)
        return [ReceiptRow._make(row) for row in rows]

    async def receipts_of_call(self, tenant_id: str, call_id: str) -> list[ReceiptRow]:
        """See `LedgerReader.receipts_of_call`."""
        sql = self._sql["receipts_of_call"]
        rows = await self._reads.fetch(sql, tenant_id, call_id, tenant=tenant_id)
        return [ReceiptRow._make(row) for row in rows]

    async def call_facts(self, tenant_id: str, seq: int) -> CallFactsRow | None:
        """See `LedgerReader.call_facts`."""
        rows = await self._reads.fetch(self._sql["call_facts"], tenant_id, seq, tenant=tenant_id)
        return CallFactsRow._make(rows[0]) if rows else None

    async def run_head(self, tenant_id: str, run_key: str) -> RunHead:
        """See `LedgerReader.run_head`."""
        sql = self._sql["run_head"]
        rows = await self._reads.fetch(sql, tenant_id, run_key, tenant=tenant_id)
        return RunHead._make(rows[0]) if rows else NO_RUN

    async def tool_marks(self, tenant_id: str, upstream: str) -> list[PinMark]:
        """See `LedgerReader.tool_marks`."""
        sql = self._sql["tool_marks"]
        rows = await self._reads.fetch(sql, tenant_id, upstream, tenant=tenant_id)
        return sorted(PinMark._make(row) for row in rows)

    async def tool_pins(self, tenant_id: str, upstream: str) -> list[PinRow]:
        """See `LedgerReader.tool_pins`."""
        sql = self._sql["tool_pins"]
        rows = await self._reads.fetch(sql, tenant_id, upstream, tenant=tenant_id)
        return sorted(PinRow._make(row) for row in rows)

    async def tool_pin(self, tenant_id: str, upstream: str, tool: str) -> PinRow | None:
        """See `LedgerReader.tool_pin`."""
        sql = self._sql["tool_pin"]
        rows = await self._reads.fetch(sql, tenant_id, upstream, tool, tenant=tenant_id)
        return PinRow._make(rows[0]) if rows else None

    async def pinned_upstreams(self) -> list[tuple[str, str]]:
        """See `LedgerReader.pinned_upstreams`."""
        rows = await self._reads.fetch(self._sql["pinned_upstreams"])
        return sorted((row[0], row[1]) for row in rows)

    async def epochs(self) -> dict[str, int]:
        """See `RegistryReader.epochs`."""
        return {row[0]: row[1] for row in await self._reads.fetch(self._sql["epochs"])}

    async def agents(self, tenant_id: str) -> list[AgentRow]:
        """See `RegistryReader.agents`."""
        rows = await self._reads.fetch(self._sql["agents"], tenant_id, tenant=tenant_id)
        return [AgentRow._make(row) for row in rows]

    async def api_keys(self, tenant_id: str) -> list[KeyRow]:
        """See `RegistryReader.api_keys`."""
        rows = await self._reads.fetch(self._sql["api_keys"], tenant_id, tenant=tenant_id)
        return [KeyRow._make(row) for row in rows]

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
        """See `RegistryReader.audit_events`."""
        parameters = (tenant_id, before_seq, actor, action, subject, limit)
        rows = await self._reads.fetch(self._sql["audit_events"], *parameters, tenant=tenant_id)
        return [AuditRow._make(row) for row in rows]

    async def approval(self, tenant_id: str, approval_id: str) -> ApprovalRow | None:
        """See `ApprovalReader.approval`."""
        return await self._one_approval("approval", tenant_id, approval_id)

    async def approval_of_action(self, tenant_id: str, action_sha256: str) -> ApprovalRow | None:
        """See `ApprovalReader.approval_of_action`."""
        return await self._one_approval("approval_of_action", tenant_id, action_sha256)

    async def approval_rejected_last(
        self, tenant_id: str, action_sha256: str
    ) -> ApprovalRow | None:
        """See `ApprovalReader.approval_rejected_last`."""
        return await self._one_approval("approval_rejected_last", tenant_id, action_sha256)

    async def approvals_decided(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """See `ApprovalReader.approvals_decided`."""
        rows = await self._reads.fetch(self._sql["approvals_decided"], json.dumps(wanted))
        return [(row[0], row[1]) for row in rows]

    async def open_approvals(self, tenant_id: str, after_id: str, limit: int) -> list[ApprovalRow]:
        """See `ApprovalReader.open_approvals`."""
        sql = self._sql["open_approvals"]
        rows = await self._reads.fetch(sql, tenant_id, after_id, limit, tenant=tenant_id)
        return [ApprovalRow._make(row) for row in rows]

    async def approvals_before(
        self, tenant_id: str, before_id: str, limit: int
    ) -> list[ApprovalRow]:
        """See `ApprovalReader.approvals_before`."""
        sql = self._sql["approvals_before"]
        rows = await self._reads.fetch(sql, tenant_id, before_id, limit, tenant=tenant_id)
        return [ApprovalRow._make(row) for row in rows]

    async def approval_granted_before(
        self, tenant_id: str, before_id: str, agent_id: str, tool: str, looked_at: int
    ) -> ApprovalRow | None:
        """See `ApprovalReader.approval_granted_before`."""
        sql = self._sql["approval_granted_before"]
        asked = (tenant_id, before_id, agent_id, tool, looked_at)
        rows = await self._reads.fetch(sql, *asked, tenant=tenant_id)
        return ApprovalRow._make(rows[0]) if rows else None

    async def count_open_approvals(self, tenant_id: str, agent_id: str = "") -> int:
        """See `ApprovalReader.count_open_approvals`."""
        sql = self._sql["count_open_approvals"]
        rows = await self._reads.fetch(sql, tenant_id, agent_id, tenant=tenant_id)
        return int(rows[0][0])

    async def said_once(
        self, tenant_id: str, agent_id: str, kind: str, name: str
    ) -> OnceRow | None:
        """See `OnceStore.said_once`."""
        parameters = (tenant_id, agent_id, kind, name)
        rows = await self._reads.fetch(self._sql["said_once"], *parameters, tenant=tenant_id)
        return OnceRow._make(rows[0]) if rows else None

    async def _one_approval(self, name: str, tenant_id: str, key: str) -> ApprovalRow | None:
        rows = await self._reads.fetch(self._sql[name], tenant_id, key, tenant=tenant_id)
        return ApprovalRow._make(rows[0]) if rows else None

    async def open_intents(self, node_id: str, limit: int) -> list[OpenIntentRow]:
        """See `LedgerReader.open_intents`."""
        rows = await self._reads.fetch(self._sql["open_intents"], node_id, limit)
        return [OpenIntentRow._make(row) for row in rows]

    async def lost_heads(self, heads: Mapping[str, Seen]) -> list[LostHead]:
        """Those of the heads that do not stand in the store; of a server's, as this reader sees
        it."""
        return lost_among(
            heads, await self._reads.fetch(self._sql["heads_not_there"], asked(heads))
        )

    async def close(self) -> None:
        """Idempotent. Later calls raise StoreUnavailable."""
        await self._reads.close()


class SqlStore(SqlReader, WatchWrites):
    """`storage.protocol.Store`."""

    def __init__(
        self,
        driver: Driver,
        sql: Mapping[str, str],
        *,
        now_us: Callable[[], int],
        node_id: str,
        known: KnownHeads | None = None,
    ) -> None:
        super().__init__(driver, sql)
        self._driver = driver
        self._now_us = now_us
        self._memory = RememberedHeads() if "guard_heads" in sql else None
        self.node_id = node_id
        #: What the driver compares the store with whenever it has connected again.
        self.known = known or KnownHeads()
        #: And a batch with the heads, where somebody can put older tables back under a connection.
        self._held = self.known if self._memory is not None else None

    async def head(self, tenant_id: str) -> HeadRow:
        """See `LedgerReader.head`. This process goes by it, whoever wrote it: from now on the store
        must have it; unless it is of another history than what was known before."""
        head = await super().head(tenant_id)
        if not (before := self.known.before(head)) or not await self.lost_heads(before):
            self.known.note([head])
        return head

    async def record(self, entries: Sequence[Entry], seal: Seal) -> list[Answer]:
        """See `RecordStore.record`."""
        if not entries:
            return []
        tenants = sorted({entry.receipt.tenant_id for entry in entries})
        memory = self._memory
        done = await self._from_memory(memory, entries, seal, tenants) if memory else None
        if done is None:
            if memory:
                memory.forget(*tenants)
            record = self._driver.transaction
            try:
                done = await record(
                    partial(record_group, self._sql, entries, seal, self._held), tenants
                )
            except ODDITIES:
                done = await record(
                    partial(record_each, self._sql, entries, seal, self._held), tenants
                )
        if memory:
            memory.keep(done.heads, done.runs)
        self.known.note(done.heads.values())
        return done.answers

    async def record_with(
        self, first: Callable[[], Script[None]], entries: Sequence[Entry], seal: Seal
    ) -> list[Answer]:
        """Records entries in one transaction with what `first` does; what that raises undoes both.
        For what is done beside a queue."""
        tenants = sorted({entry.receipt.tenant_id for entry in entries})
        if self._memory is not None:
            self._memory.forget(*tenants)

        def script() -> Script[Done]:
            yield from first()
            return (yield from record_each(self._sql, entries, seal, self._held))

        done = await self._driver.transaction(script, tenants or None)
        self.known.note(done.heads.values())
        return done.answers

    async def compare(self, heads: Mapping[str, Seen]) -> None:
        """Raises StoreRolledBack unless each of these stands in the store. From then on no chain
        may become shorter than it is, whatever the driver has to connect to again."""

        def script() -> Script[list[Row]]:
            yield from check_heads(self._sql, heads)
            return (yield from fetch(self._sql["last_receipts"]))

        rows = await self._driver.transaction(script)
        self.known.learn({row[0]: Seen(row[1], row[2]) for row in rows})

    async def _from_memory(
        self, memory: RememberedHeads, entries: Sequence[Entry], seal: Seal, tenants: list[str]
    ) -> Done | None:
        """In one round trip, if this process was the last to append to all these chains."""
        known = memory.take(entries, tenants)
        if known is None:
            return None
        script = partial(record_remembered, self._sql, entries, seal, *known)
        try:
            done = await self._driver.transaction(script, tenants)
        except ODDITIES:
            return None
        if done is None:
            memory.missed(tenants)
        return done

    async def wait_for_writers(self, tenant_id: str) -> None:
        """Whatever had the tenant's head locked has ended: it is there to be read, or never was."""
        script = partial(fetch, self._sql["lock_heads"], json.dumps([tenant_id]))
        await self._driver.transaction(script, [tenant_id])

    async def after_commit(self) -> None:
        """See `RecordStore.after_commit`."""
        await self._driver.upkeep()

    async def raise_epoch(self, tenant_id: str) -> int:
        """See `RecordStore.raise_epoch`."""
        script = partial(fetch, self._sql["raise_epoch"], tenant_id)
        if self._memory is not None:
            self._memory.forget(tenant_id)
        rows = await self._driver.transaction(script, [tenant_id])
        epoch: int = rows[0][0]
        return epoch

    @property
    def has_leases(self) -> bool:
        """Whether several nodes may write to this store, each alive while its lease is renewed."""
        return "renew_lease" in self._sql

    async def renew_lease(self, boot_id: str, lease_s: float) -> None:
        """This node lives for so long; NodeHeld if another boot of its name does."""
        lease_us = int(lease_s * 1e6)
        script = partial(fetch, self._sql["renew_lease"], self.node_id, boot_id, lease_us)
        if not await self._driver.transaction(script):
            raise NodeHeld(f"another process is node {self.node_id!r} on this store")

    async def end_lease(self, boot_id: str) -> None:
        """This boot stops in order."""
        sql = self._sql["end_lease"]
        await self._driver.transaction(partial(fetch, sql, self.node_id, boot_id))

    async def dead_nodes(self) -> list[str]:
        """Job across tenants: other nodes with open intents whose lease has run out; of a file,
        which one process has, all others."""
        rows = await self._driver.fetch(self._sql["dead_nodes"], self.node_id)
        return sorted(row[0] for row in rows)

    async def forget_said(self, tenant_id: str, at_us: int) -> int:
        """See `OnceStore.forget_said`."""

        def script() -> Script[int]:
            moment_us = at_us
            if "server_clock" in self._sql:
                moment_us = (yield from fetch(self._sql["server_clock"]))[0][0]
            sql = self._sql["forget_said"]
            return len((yield from fetch(sql, tenant_id, moment_us, SAID_FORGOTTEN_AT_ONCE)))

        return await self._driver.transaction(script, [tenant_id])

    async def drop_idle_buckets(self, at_us: int) -> int:
        """Forgets some buckets of limits that say nothing any more, by the server's clock where
        there is one; gives how many. Nobody needs to stand still for it."""

        def script() -> Script[int]:
            moment_us = at_us
            if "server_clock" in self._sql:
                moment_us = (yield from fetch(self._sql["server_clock"]))[0][0]
            drop = fetch(self._sql["drop_idle_buckets"], moment_us, BUCKETS_DROPPED_AT_ONCE)
            return len((yield from drop))

        return await self._driver.transaction(script)

    async def kept_state(self, name: str, value: str) -> str:
        """A named value of the store's; `value` becomes it if there is none."""
        script = partial(fetch, self._sql["keep_state"], name, value)
        kept: str = (await self._driver.transaction(script))[0][0]
        return kept

    async def kept(self, name: str) -> str | None:
        """See `Store.kept`."""
        rows = await self._reads.fetch(self._sql["state_value"], f"{KEPT}{name}")
        return str(rows[0][0]) if rows else None

    async def keep(self, name: str, value: str) -> str:
        """See `Store.keep`."""
        return await self.kept_state(f"{KEPT}{name}", value)

    async def probe(self) -> None:
        """See `Store.probe`."""
        mark = str(self._now_us())
        await self._driver.transaction(partial(fetch, self._sql["put_state"], "probe_us", mark))

    def facts(self) -> StoreFacts:
        """Numbers for metrics; never blocks."""
        return self._driver.facts()
