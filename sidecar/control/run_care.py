"""Shows what an agent's run has gathered, and ends it, on record.

Knows: that ending a run is one entry: the receipt that tells of it and the step that leaves
nothing of the run stand or fall together. Decisions in flight that rested on the run are stale by
it. The operator's reason stands beside the receipt, where it goes when the agent's facts are
erased, and in the audit row, where it stays: what people wrote says why they did what they did.
That an agent is known by the configuration, or by the store, where it was registered.
Must not know: HTTP, the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sidecar.clock import Clock
from sidecar.ledger.audit_rows import RUN_RESET
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.commitment import NONCE_BYTES, committed
from sidecar.ledger.pin_entries import SOCKET_ACTOR
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.run_text import UnreadableRun, read_run
from storage.errors import StoreError
from storage.records import Entry, Recorded, RunHead
from storage.standing import AuditRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sidecar.config.model import Config
    from sidecar.ledger.fence import Fence
    from sidecar.ledger.run_keeper import RunKeeper
    from storage.standing import AgentRow
    from storage.write_queue import WriteQueue


class RunStore(Protocol):
    """What is needed of a store."""

    async def run_head(self, tenant_id: str, run_key: str) -> RunHead:
        """A run as it stands."""
        ...

    async def agents(self, tenant_id: str) -> list[AgentRow]:
        """Its agents of whom the store keeps anything."""
        ...


class RunCareRefused(Exception):
    """The run is not shown or ended: `code` is stable, `next_step` says what to do."""

    def __init__(self, code: str, title: str, next_step: str) -> None:
        super().__init__(title)
        self.code = code
        self.title = title
        self.next_step = next_step


class RunCare:
    """For the agents of one sidecar."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        store: RunStore,
        queue: WriteQueue,
        runs: RunKeeper,
        fence: Fence,
    ) -> None:
        self._tenants = config.tenants
        self._clock = clock
        self._store = store
        self._queue = queue
        self._runs = runs
        self._fence = fence

    async def show(
        self,
        agent: str,
        tenant: str | None,
        run_id: str = "",
        *,
        is_known: bool = False,
        read: Callable[[str, str], Awaitable[RunHead]] | None = None,
    ) -> dict[str, Any]:
        """What the run has gathered, as plain values. `is_known` says that the tenant is known to
        have the agent, wherever it stands; `read` asks by other connections. Raises
        RunCareRefused."""
        named = tenant if is_known and tenant else await self._tenant_of(agent, tenant)
        head = await self._head(named, _key(agent, run_id), read or self._store.run_head)
        said: dict[str, Any] = {"tenant": named, "agent": agent, "version": head.version}
        try:
            kept = read_run(head.state)
        except UnreadableRun as error:
            return said | {"unreadable": str(error)}
        if kept is None:
            return said
        state = kept.state
        return said | {
            "trust": state.trust.label,
            "labels": sorted(state.labels),
            "started_us": state.started_us,
            "last_us": kept.last_us,
            "lowered_by": state.lowered_by,
            "lowered_in": state.lowered_in,
            "lowered_at_us": state.lowered_at_us,
            "has_ended": self._runs.has_ended(named, _key(agent, run_id), kept),
        }

    async def reset(
        self,
        agent: str,
        tenant: str | None,
        reason: str,
        run_id: str = "",
        *,
        actor: str = SOCKET_ACTOR,
        is_known: bool = False,
    ) -> dict[str, Any]:
        """Ends the run, on record as done by `actor`; what it had gathered. Raises
        RunCareRefused."""
        shown = await self.show(agent, tenant, run_id, is_known=is_known)
        named = str(shown["tenant"])
        if self._fence.is_up:
            raise RunCareRefused("store_fenced", "The store is fenced", self._fence.sentence())
        entry = self._entry(named, agent, run_id, reason, actor, shown)
        try:
            answer = await self._queue.submit(entry)
        except StoreError as error:
            raise RunCareRefused(error.code, str(error), error.next_step) from error
        if not isinstance(answer, Recorded):
            raise RunCareRefused("unrecordable", f"not recorded: {answer}", "Report it.")
        self._runs.forget(named)
        return shown | {"seq": answer.seq}

    def _entry(
        self,
        tenant: str,
        agent: str,
        run_id: str,
        reason: str,
        actor: str,
        before: Mapping[str, Any],
    ) -> Entry:
        nonce = self._clock.random_bytes(NONCE_BYTES)
        now_us = self._clock.now_us()
        gathered = canonical_arguments(
            {name: value for name, value in before.items() if name not in ("tenant", "agent")}
        ).decode()
        # The receipt commits to who did it and to what there was, as the audit tells it.
        arguments = canonical_arguments({"actor": actor, "before": gathered, "reason": reason})
        commitment, facts = committed(tenant, nonce, arguments)
        receipt = blank_receipt(
            tenant,
            "control",
            event_id=self._clock.new_id(),
            call_id=None,
            ts_us=now_us,
            agent_id=agent,
        )._replace(
            action=RUN_RESET,
            approver=actor,
            run_id=run_id or None,
            args_commitment=commitment,
        )
        subject = f"run:{agent}/{run_id}" if run_id else f"run:{agent}"
        audit = AuditRow(tenant, 0, now_us, actor, RUN_RESET, subject, gathered, "", reason)
        return Entry(receipt, facts, run_key=_key(agent, run_id), run_step=_nothing, audit=audit)

    async def _head(
        self, tenant: str, key: str, read: Callable[[str, str], Awaitable[RunHead]]
    ) -> RunHead:
        try:
            return await read(tenant, key)
        except StoreError as error:
            raise RunCareRefused(error.code, str(error), error.next_step) from error

    async def _tenant_of(self, agent: str, tenant: str | None) -> str:
        having = [
            name
            for name in self._tenants
            if tenant in (None, name) and await self._has_agent(name, agent)
        ]
        if len(having) == 1:
            return having[0]
        if having:
            raise RunCareRefused(
                "ambiguous_agent",
                f"several tenants have an agent {agent!r}: {', '.join(having)}",
                "Name one with --tenant.",
            )
        raise RunCareRefused(
            "unknown_agent",
            f"there is no agent {agent!r}" + (f" of {tenant!r}" if tenant else ""),
            "`agents list` shows them.",
        )

    async def _has_agent(self, tenant: str, agent: str) -> bool:
        if agent in self._tenants[tenant].agents:
            return True
        try:
            return any(row.agent_id == agent for row in await self._store.agents(tenant))
        except StoreError as error:
            raise RunCareRefused(error.code, str(error), error.next_step) from error


def _key(agent: str, run_id: str) -> str:
    return f"{agent}\n{run_id}" if run_id else agent


def _nothing(_: str) -> str:
    return ""
