"""Makes the rooms of the write path: store, lease, queue, pressure, recorder, runs and fence,
and what puts the configuration and the policies in force on record.

Knows: which settings each of them takes. Part of the composition root, which says in what order.
"""

from __future__ import annotations

import socket
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import storage
from sidecar.calibration import kept_figures, measure_store, scratch_folder
from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.config.told import told_of
from sidecar.control.erasing import finish_erasing
from sidecar.control.fencing import Fencing
from sidecar.ledger.boot_record import BootRecord
from sidecar.ledger.chain import seal
from sidecar.ledger.config_record import ConfigRecord
from sidecar.ledger.fence import Fence
from sidecar.ledger.lease import Lease
from sidecar.ledger.policy_record import PolicyRecord
from sidecar.ledger.recorder import Recorder
from sidecar.ledger.recovery import recover_all
from sidecar.ledger.run_keeper import RunKeeper
from sidecar.ledger.witness import witnessed
from sidecar.proxy.asked_ids import AskedIds
from sidecar.proxy.bindings import KEY_BYTES, Bindings
from sidecar.proxy.mcp_sessions import McpSessions
from sidecar.proxy.redaction import Redactor
from sidecar.signed_note import SigningKey
from storage.calibrate import Calibration
from storage.marks import Marks
from storage.pressure import Pressure
from storage.records import Entry, Recorded
from storage.tree import TreeWriter
from storage.write_queue import BATCH_MAX, WriteQueue

if TYPE_CHECKING:
    from sidecar.ledger.checkpointer import Checkpointer
    from sidecar.policy_files import PolicyKeeper

#: How long one read for the API may take, and by how many connections they are made.
LOOK_UP_S = 2.0
LOOK_UP_CONNECTIONS = 2


async def opened_store(
    stack: AsyncExitStack,
    config: Config,
    clock: Clock,
    boot_id: str,
    fence: Fence,
    *,
    is_only_store: bool = True,
) -> tuple[storage.SqlStore, Lease | None]:
    """The open store, which was not rolled back and has no erasure half done; on one that several
    share, with this node's lease begun. `is_only_store` says that no other store works under this
    configuration."""
    opening = partial(
        storage.open_store, config.store, now_us=clock.now_us, node_id=_node_id(config)
    )
    store = await stack.enter_async_context(
        witnessed(config.store, config.data_dir, clock.now_us, opening)
    )
    if config.receipts.key is not None:
        from sidecar.ledger.exported import check_exported

        key = SigningKey(config.receipts.key.reveal())
        targets = config.receipts.checkpoint.to
        await check_exported(store, targets, key, is_only_store=is_only_store)
    await finish_erasing(store, clock)
    if not store.has_leases:
        return store, None
    lease = Lease(store, seal, clock, boot_id=boot_id, fence=fence)
    await lease.begin()
    stack.push_async_callback(lease.end)
    return store, lease


async def begun_checkpoints(
    stack: AsyncExitStack, config: Config, clock: Clock, store: storage.SqlStore, fence: Fence
) -> Checkpointer | None:
    """What signs the heads of the chains and sends them on, and does so a last time at the end;
    None without a key."""
    if config.receipts.key is None:
        return None
    from sidecar.ledger.checkpoint_export import Exporter
    from sidecar.ledger.checkpoint_targets import made_target
    from sidecar.ledger.checkpointer import Checkpointer

    key, settings = SigningKey(config.receipts.key.reveal()), config.receipts.checkpoint
    keep = TreeWriter(store).set_checkpoint
    checkpoints = Checkpointer(
        store, clock, fence, key,
        every_s=settings.every_s, receipts=settings.receipts,
        exporters=[
            Exporter(made_target(text, store, key), clock, keep) for text in settings.to
        ],
    )  # fmt: skip
    await checkpoints.begin()
    stack.push_async_callback(checkpoints.close)
    return checkpoints


async def begun_boot(
    stack: AsyncExitStack,
    config: Config,
    clock: Clock,
    store: storage.SqlStore,
    boot_id: str,
    fence: Fence,
) -> tuple[BootRecord, int]:
    """Closes what earlier boots left open, and gives how many calls; from here on the record says
    that this boot runs, and when the stack ends that it ended in order: the queue, which comes
    after this, has ended then. Raises a StoreError."""
    recovered = await recover_all(store, seal, clock, boot_id=boot_id)
    boot = BootRecord(
        config.tenants, store, seal, clock, fence,
        boot_id=boot_id, heartbeat_s=config.receipts.heartbeat_s,
    )  # fmt: skip
    await boot.begin()
    stack.push_async_callback(boot.end)
    return boot, recovered


def _node_id(config: Config) -> str | None:
    """Who this process is among several on one server; a file knows its node itself.

    The same after a restart, so that it recovers what it left open.
    """
    if storage.engine_of(config.store) == "sqlite":
        return None
    return f"{socket.gethostname() or 'node'}:{config.listen.data.port}"


async def opened_reader(stack: AsyncExitStack, config: Config) -> storage.SqlReader:
    """Connections for people who look things up: few, with a short limit, and none that a decision
    waits for."""
    reader = await storage.open_reader(
        config.store, limit_s=LOOK_UP_S, connections=LOOK_UP_CONNECTIONS
    )
    stack.push_async_callback(reader.close)
    return reader


def made_recorder(
    config: Config,
    clock: Clock,
    queue: WriteQueue,
    store: storage.SqlStore,
    boot_id: str,
    fence: Fence,
) -> Recorder:
    """The recorder of this node and boot, which hears of what was recorded unheard."""
    recorder = Recorder(
        queue,
        clock,
        node_id=store.node_id,
        boot_id=boot_id,
        redact=Redactor(config.record.secrets).arguments,
        keeps_arguments=config.record.arguments == "redacted",
        fence=fence,
    )
    queue.on_abandoned = recorder.abandoned
    return recorder


async def record_in_force(
    config: Config,
    clock: Clock,
    store: storage.SqlStore,
    queue: WriteQueue,
    fence: Fence,
    policies: PolicyKeeper,
) -> None:
    """From here on the record of each tenant says who is configured and which policies are in
    force. Raises a StoreError: then nobody may be served."""
    node = store.node_id
    told = partial(told_of, config)
    await ConfigRecord(config.tenants, store, queue, clock, node=node, told_of=told).loaded()
    await policies.record_by(PolicyRecord(config.tenants, store, queue, clock, fence, node=node))


async def seeded_pressure(
    config: Config, store: storage.SqlStore, clock: Clock
) -> tuple[Pressure, str]:
    """The pressure with its seeds, and when they were measured for good; "" if only just now.

    What a server carries is not measured at every start: its traffic tells, or `store calibrate`.
    """
    figures = await kept_figures(store, config.store, config.data_dir)
    calibration, calibrated = Calibration((), 0.0), ""
    if figures is not None:
        calibration, calibrated = figures.calibration(), figures.sentence()
    elif (folder := scratch_folder(config.store)) is not None:
        calibration = await measure_store(folder, clock)
    pressure = Pressure(
        batch_entries_max=BATCH_MAX,
        monotonic_ns=clock.monotonic_ns,
        loop_cpu_ns=time.thread_time_ns,
        seeds=calibration.points,
        handover_s=calibration.handover_s,
    )
    return pressure, calibrated


def made_queue(
    config: Config, store: storage.SqlStore, pressure: Pressure, clock: Clock
) -> WriteQueue:
    """The queue in front of the store; a commit of unknown outcome is looked up by call id."""

    async def lookup(entry: Entry) -> Recorded | None:
        """What became of an entry of a call whose commit is unknown."""
        receipt = entry.receipt
        await store.wait_for_writers(receipt.tenant_id)  # it may be under way at the server still
        rows = await store.receipts_of_call(receipt.tenant_id, receipt.call_id or "")
        for row in rows:
            if (row.kind, row.event_id) == (receipt.kind, receipt.event_id):
                return Recorded(row.seq, row.receipt_hash, row.ts_us, 0)
        return None

    return WriteQueue(
        store,
        seal,
        capacity=config.limits.queue,
        wait_s=config.limits.queue_wait_s,
        monotonic_ns=clock.monotonic_ns,
        lookup=lookup,
        on_batch=pressure.observe,
    )


async def kept_bindings(clock: Clock, store: storage.SqlStore) -> Bindings:
    """What ids of MCP sessions and events are bound with: by a key that the store keeps, so that
    they hold over restarts, on every node of the store and where it is moved to."""
    key = await store.keep("mcp_bindings", clock.random_bytes(KEY_BYTES).hex())
    return Bindings(bytes.fromhex(key))


async def made_sessions(clock: Clock, store: storage.SqlStore) -> McpSessions:
    """Sessions over HTTP. Where several processes may share the store an answer comes to any of
    them, and which request of a server it answers is known to the one that passed that on: there
    the rules alone say whether it may go on."""
    asked = None if store.has_leases else AskedIds()
    return McpSessions(await kept_bindings(clock, store), asked)


def run_keeper(config: Config, clock: Clock, store: storage.SqlStore) -> RunKeeper:
    """What runs have gathered, as this process sees it."""
    idle_s, is_alone = config.runs.idle_s, not store.has_leases
    return RunKeeper(store.run_head, clock, idle_s=idle_s, is_alone=is_alone)


def made_fencing(
    config: Config,
    clock: Clock,
    fence: Fence,
    queue: WriteQueue,
    store: storage.SqlStore,
    lease: Lease | None,
) -> Fencing:
    """Raises and lifts the fence; calls in flight get as long to end as when stopping."""
    return Fencing(
        fence,
        queue=queue,
        marks=Marks(store),
        clock=clock,
        node_id=store.node_id,
        tenants=config.tenants,
        wait_s=config.limits.drain_s,
        beside=lease,
    )
