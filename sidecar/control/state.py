"""What the control listener and control.sock may ask of the running sidecar, in one place.

Knows: the rooms that can answer. Filled by the composition root.
Must not know: HTTP, sockets, the form of an answer beyond plain values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.backup_file import told
from sidecar.clock import Clock
from sidecar.config.store_url import SQLITE
from sidecar.control.approval_care import ApprovalCare
from sidecar.control.caller_care import CallerCare
from sidecar.control.fencing import Fencing
from sidecar.control.incident_care import IncidentCare
from sidecar.control.readiness import Readiness
from sidecar.control.run_care import RunCare
from sidecar.control.sink_care import ReadsDeliveries, SinkCare
from sidecar.control.status import Identity, status_of
from sidecar.control.tool_care import ToolCare
from sidecar.soc.incidents import Incidents
from sidecar.telemetry.counters import Counters
from sidecar.telemetry.exposition import Exposition
from sidecar.telemetry.sources import (
    Certificate,
    CheckpointCounts,
    DeliveryCounts,
    Door,
    LineCounts,
    PinCounts,
    RecordKeeper,
    Sources,
    StoreRole,
    UpstreamCertificate,
    WatchCounts,
)
from sidecar.telemetry.store_surroundings import StoreSurroundings
from storage.sqlite_file import path_of_url

if TYPE_CHECKING:
    from sidecar.approvals.service import Approvals
    from sidecar.config.model import Config
    from sidecar.policy_files import PolicyKeeper
    from sidecar.soc.delivery_changes import DeliveryChanges
    from storage.forecast import Outlook
    from storage.pressure import Pressure
    from storage.standing import KeyRow
    from storage.write_queue import WriteQueue


class Telling(DeliveryCounts, Protocol):
    """Who tells others of what happened."""

    reader: ReadsDeliveries
    changes: DeliveryChanges


class ControlState:
    """Answers for the whole process. Set `is_draining` when the sidecar begins to stop."""

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        boot_id: str,
        counters: Counters,
        queue: WriteQueue,
        pressure: Pressure,
        store: StoreRole,
        policies: PolicyKeeper,
        recorder: RecordKeeper,
        door: Door,
        logs: LineCounts | None = None,
        outlook_at: Callable[[float], Outlook] | None = None,
        calibrated: str = "",
        fencing: Fencing | None = None,
        runs: RunCare | None = None,
        tools: ToolCare | None = None,
        pins: PinCounts | None = None,
        approvals: Approvals | None = None,
        callers: CallerCare | None = None,
        telling: Telling | None = None,
        certificates: Sequence[Certificate] = (),
        upstream_certificates: Sequence[UpstreamCertificate] = (),
        checkpoints: CheckpointCounts | None = None,
        watch: WatchCounts | None = None,
        incidents: Incidents | None = None,
        has_listeners: bool = True,
        started_ns: int | None = None,
    ) -> None:
        fence = fencing.fence if fencing is not None else None
        # Each None where the embedding program has nobody who keeps such.
        self.fencing, self.runs, self.tools = fencing, runs, tools
        self.approvals, self.callers, self.incidents = approvals, callers, incidents
        self.incident_care = IncidentCare(incidents, config.tenants) if incidents else None
        self.deliveries = telling.changes if telling else None
        self.sinks = SinkCare(config, telling.reader, telling.changes) if telling else None
        url = config.approvals.url if has_listeners else ""
        self.approval_care = _approval_care(config, approvals, callers, url)
        self._clock, self._policies, self._outlook_at = clock, policies, outlook_at
        self._sources = Sources(
            counters=counters,
            queue=queue,
            pressure=pressure.snapshot,
            store_facts=store.facts,
            policies=policies,
            recorder=recorder,
            door=door,
            logs=logs,
            default=config.default,
            fence=fence,
            certificates=tuple(certificates),
            upstream_certificates=tuple(upstream_certificates),
            pins=pins,
            checkpoints=checkpoints,
            approvals=approvals.changes if approvals is not None else None,
            callers=callers.counts if callers is not None else None,
            watch=watch,
            deliveries=telling,
            surroundings=StoreSurroundings(config.data_dir, _store_file(config)).look,
        )
        self._exposition = Exposition(self._sources)
        self._readiness = Readiness(
            queue, policies, probe=store.probe, monotonic_ns=clock.monotonic_ns, fence=fence
        )
        began_ns = clock.monotonic_ns() if started_ns is None else started_ns
        self._identity = _identity(
            config, boot_id, store.node_id, began_ns, calibrated, has_listeners=has_listeners
        )

    @property
    def is_draining(self) -> bool:
        """Whether the sidecar has begun to stop; from then on it is not ready."""
        return self._readiness.is_draining

    @is_draining.setter
    def is_draining(self, value: bool) -> None:
        self._readiness.is_draining = value

    async def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format `accept` asks for, and its content type."""
        return await self._exposition.render(accept)

    async def not_ready(self) -> list[str]:
        """Why calls cannot be served now; empty if they can."""
        return await self._readiness.reasons()

    async def status(self) -> dict[str, Any]:
        """The status as plain values."""
        not_ready = await self.not_ready()
        return status_of(
            self._identity,
            self._sources,
            self._clock,
            not_ready=not_ready,
            stalled=self._readiness.stalled,
            outlook_at=self._outlook_at,
            backed_up=await asyncio.to_thread(told, self._identity.store_file),
        )

    def shadow_counts(self, tenant: str) -> tuple[float, dict[tuple[str, str], int]]:
        """Seconds since the start, and how many decisions of a tenant since then would be which if
        the rules in shadow decided: by what was decided and what it would be."""
        up_s = (self._clock.monotonic_ns() - self._identity.started_ns) / 1e9
        return up_s, dict(self._sources.counters.shadow_by_tenant.get(tenant, {}))

    async def reload(self, actor: str) -> dict[str, Any]:
        """Reloads the policies now, as `actor` asks; what came of it, with every problem."""
        result = await self._policies.reload(actor)
        return {
            "succeeded": result.succeeded,
            "text": result.text,
            "problems": [str(problem) for problem in self._policies.problems],
        }


def _identity(
    config: Config,
    boot_id: str,
    node_id: str,
    started_ns: int,
    calibrated: str,
    *,
    has_listeners: bool,
) -> Identity:
    return Identity(
        boot_id=boot_id,
        node_id=node_id,
        started_ns=started_ns,
        data_dir=str(config.data_dir),
        data_url=config.listen.data.url if has_listeners else "",
        control_url=config.listen.control.url if has_listeners else "",
        upstreams={name: upstream.kind for name, upstream in config.upstreams.items()},
        calibrated=calibrated,
        store_file=_store_file(config),
    )


def _store_file(config: Config) -> Path | None:
    return path_of_url(config.store) if config.store.startswith(SQLITE) else None


def _approval_care(
    config: Config, approvals: Approvals | None, callers: CallerCare | None, url: str
) -> ApprovalCare | None:
    if approvals is None:
        return None
    keys = _no_keys if callers is None else callers.open_keys
    return ApprovalCare(approvals, config.tenants, url, keys)


async def _no_keys(_tenant: str) -> list[KeyRow]:
    """Where the embedding program keeps none."""
    return []
