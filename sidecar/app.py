"""The composition root: from a Config to a running sidecar, and in reverse order back.

Knows: which room needs which, the order of starting (policies, store, recovery, control, data)
and of stopping (intake, calls in flight, queue, store). Nothing else opens a store or a listener.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import storage
from sidecar.approvals.service import Approvals
from sidecar.authorize.door import RESERVED, AuthorizeDoor
from sidecar.authorize_rooms import Shared, made_authorize
from sidecar.certificate_keeper import CertificateKeeper, Certificates
from sidecar.clock import Clock
from sidecar.config.model import STDIO, Config
from sidecar.errors import StartRefused
from sidecar.identity.callers import Callers, made_callers
from sidecar.ledger.fence import Fence
from sidecar.ledger.lease import Lease
from sidecar.ledger.pin_keeper import PinKeeper
from sidecar.listening import OwnListeners, listening_sockets
from sidecar.open_files import connections_max, needed_for, open_files_max
from sidecar.policy_files import PolicyKeeper
from sidecar.pressure_history import PressureHistory
from sidecar.proxy.doorkeeper import Doorkeeper
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.server import FrontDoor, head_rules, require_c_parser
from sidecar.proxy.upstream_lean import LeanLeg
from sidecar.rooms import (
    GC_THRESHOLD,
    SWITCH_INTERVAL_S,
    Tasks,
    made_approvals,
    made_masking,
    made_pipeline,
    made_policies,
    made_spans,
    secrets_of,
    settle,
    start_upkeep,
)
from sidecar.soc_rooms import begun_watching
from sidecar.telemetry.counters import Counters
from sidecar.telemetry.logs import Logs
from sidecar.telling_rooms import Telling
from sidecar.write_path import (
    begun_boot,
    begun_checkpoints,
    made_fencing,
    made_queue,
    made_recorder,
    made_sessions,
    opened_store,
    record_in_force,
    run_keeper,
    seeded_pressure,
)
from storage.pressure import Pressure
from storage.write_queue import WriteQueue

if TYPE_CHECKING:
    from sidecar.control.state import ControlState

__all__ = ["GC_THRESHOLD", "SWITCH_INTERVAL_S", "Sidecar", "running"]

_log = logging.getLogger("aegis.app")

BACKLOG = 1024
TICK_S = 1.0
IN_FLIGHT_LOOK_S = 0.02


@dataclass(slots=True)
class Sidecar:
    """A running sidecar, as the command line, the demo and embedding programs see it."""

    data_url: str
    control_url: str
    boot_id: str
    recovered: int
    queue: WriteQueue
    approvals: Approvals
    callers: Callers
    reload_soon: Callable[[], None]


@asynccontextmanager
async def running(
    config: Config, clock: Clock | None = None, log: TextIO | None = None
) -> AsyncIterator[Sidecar]:
    """Starts everything, yields while it serves, then drains and stops. Logs go to `log`.

    Raises SidecarError (ConfigurationError, StartRefused) or StoreError when it cannot start;
    then nothing is left behind.
    """
    clock = clock or Clock()
    _require_servable(config)
    async with AsyncExitStack() as stack:
        logs = _logs(stack, config, clock, log)
        certificates = Certificates(config.listen, config.upstreams)
        policies = made_policies(config, clock)
        policies.load_first()
        boot_id, fence = clock.new_id(), Fence()
        store, lease = await opened_store(stack, config, clock, boot_id, fence)
        checkpoints = await begun_checkpoints(stack, config, clock, store, fence)
        boot, recovered = await begun_boot(stack, config, clock, store, boot_id, fence)
        pressure, calibrated = await seeded_pressure(config, store, clock)
        history = _history(stack, config, clock)
        queue = made_queue(config, store, pressure, clock)
        stack.push_async_callback(queue.close)
        await record_in_force(config, clock, store, queue, fence, policies)
        recorder = made_recorder(config, clock, queue, store, boot_id, fence)
        callers = await made_callers(stack, config, clock, store, queue, fence, policies.catalogue)
        counters, masking = Counters(config.upstreams), made_masking(stack)
        leg, ourselves = _leg(stack, certificates)
        runs = run_keeper(config, clock, store)
        pins = PinKeeper(store, queue, clock, fence, is_alone=not store.has_leases)
        telling = Telling(config, clock, store, queue, fence, callers.containing, sys.stdout)
        approvals = made_approvals(config, clock, store, queue, fence, telling.approval_news)
        shared = Shared(
            config, clock, policies, callers, recorder, runs, pins, counters, fence, masking
        )
        authorize, door = await _ways(stack, shared, leg, approvals, store, queue, boot_id)
        watching = await begun_watching(
            stack, config, clock, store, queue, policies, counters, fence, callers.containing,
            telling,
        )  # fmt: skip
        # Not before the store was measured: what its calls took is free for these modules.
        from sidecar.api_rooms import CallerCare, ControlState, RunCare, ToolCare, begun_control

        state = ControlState(
            config=config, clock=clock, boot_id=boot_id, counters=counters, queue=queue,
            pressure=pressure, store=store, policies=policies, recorder=recorder, door=door,
            logs=logs, outlook_at=history.outlook, calibrated=calibrated,
            fencing=made_fencing(config, clock, fence, queue, store, lease),
            runs=RunCare(config, clock, store=store, queue=queue, runs=runs, fence=fence),
            tools=ToolCare.of_config(config, pins), pins=pins, checkpoints=checkpoints,
            approvals=approvals, callers=CallerCare(config, callers, store), telling=telling,
            incidents=watching.incidents, watch=watching.watcher,
            certificates=certificates.all, upstream_certificates=certificates.of_upstreams,
        )  # fmt: skip
        tasks = Tasks(stack)
        await begun_control(
            stack, shared, state, approvals, store, certificates.control, authorize, ourselves
        )
        _follow(tasks, policies, pressure, history, lease, certificates, boot.run(queue))
        start_upkeep(config, tasks, store, clock, fence, callers, approvals, checkpoints, telling)
        watching.start(tasks)
        keeper = await _listen(config, door, certificates.data, ourselves)
        stack.push_async_callback(_drain, config, keeper, door, counters, queue, state, approvals)
        settle()
        _tell(config, store, policies)
        yield Sidecar(
            data_url=config.listen.data.url, control_url=config.listen.control.url,
            boot_id=boot_id, recovered=recovered, queue=queue, approvals=approvals, callers=callers,
            reload_soon=lambda: tasks.start(policies.reload("signal"), "reload"),
        )  # fmt: skip


def _require_servable(config: Config) -> None:
    """Raises StartRefused without a strict parser, and for an upstream that only `wrap` reaches."""
    require_c_parser()
    for upstream in config.upstreams.values():
        if upstream.url == STDIO:
            raise StartRefused(
                f"upstreams.{upstream.name} is a stdio server, which has no address: let its "
                f"agent start `aegis-sidecar wrap --name {upstream.name} -- COMMAND`, or give it "
                "a URL"
            )


def _logs(stack: AsyncExitStack, config: Config, clock: Clock, stream: TextIO | None) -> Logs:
    logs = Logs(monotonic_ns=clock.monotonic_ns, secrets=secrets_of(config), stream=stream)
    stack.callback(logs.stop)
    return logs


async def _ways(
    stack: AsyncExitStack,
    rooms: Shared,
    leg: LeanLeg,
    approvals: Approvals,
    store: storage.SqlStore,
    queue: WriteQueue,
    boot_id: str,
) -> tuple[AuthorizeDoor, FrontDoor]:
    """The ways in which calls come: agents that only ask, and the door, which leads there too."""
    pipeline = made_pipeline(
        rooms.config, rooms.clock, rooms.policies, rooms.recorder, rooms.callers, rooms.runs,
        rooms.pins, leg, rooms.counters, rooms.fence, approvals,
        await made_sessions(rooms.clock, store), rooms.masking, rooms.rates,
        made_spans(stack, os.environ),
    )  # fmt: skip
    authorize = made_authorize(rooms, queue, store, boot_id, approvals, pipeline.bodies)

    def handle(exchange: Exchange) -> Awaitable[None]:
        if exchange.head.upstream == RESERVED:
            return authorize.handle(exchange)
        return pipeline.handle(exchange)

    rules, limits = head_rules(rooms.config), rooms.config.limits
    fitting = limits.model_copy(update={"connections": connections_max(limits.connections)})
    return authorize, FrontDoor(handle, pipeline.refuse_head, rules=rules, limits=fitting)


def _leg(stack: AsyncExitStack, certificates: Certificates) -> tuple[LeanLeg, OwnListeners]:
    """The way to upstreams; where it must not lead is told later, by whoever listens."""
    ourselves = OwnListeners()
    leg = LeanLeg(certificates.contexts(), ourselves)
    stack.push_async_callback(leg.close)
    return leg, ourselves


def _history(stack: AsyncExitStack, config: Config, clock: Clock) -> PressureHistory:
    """The trend as it was kept; what this run adds is written hourly and when it ends."""
    history = PressureHistory(config.data_dir, clock.now_us)
    history.load()
    stack.push_async_callback(history.close)
    return history


async def _listen(
    config: Config,
    door: FrontDoor,
    certificate: CertificateKeeper | None,
    ourselves: OwnListeners,
) -> Doorkeeper:
    address = config.listen.data
    tls = None if certificate is None else lambda: certificate.context
    try:
        listening = await listening_sockets(address.host, address.port, BACKLOG)
        ourselves.add(listening)
        return Doorkeeper(door, listening, tls)
    except OSError as error:
        raise StartRefused(
            f"the data listener cannot have {address.host}:{address.port}: {error.strerror}; "
            "end what has it, or name another as `listen.data`"
        ) from error


def _follow(
    tasks: Tasks,
    policies: PolicyKeeper,
    pressure: Pressure,
    history: PressureHistory,
    lease: Lease | None,
    certificates: Certificates,
    heartbeat: Coroutine[Any, Any, None],
) -> None:
    """What the policy files say; what the store and the process have left, now and over weeks;
    what may run out; and that it goes on."""
    tasks.start(policies.run(), "policies")
    tasks.start(heartbeat, "heartbeat")
    tasks.start(_tick(pressure), "pressure")
    tasks.start(history.run(pressure.snapshot), "trend")
    if lease is not None:
        tasks.start(lease.run(), "lease")
    tasks.start(certificates.run(), "certificates")


async def _tick(pressure: Pressure) -> None:
    while True:
        pressure.tick()
        await asyncio.sleep(TICK_S)


async def _drain(
    config: Config,
    keeper: Doorkeeper,
    door: FrontDoor,
    counters: Counters,
    queue: WriteQueue,
    state: ControlState,
    approvals: Approvals,
) -> None:
    """No new calls; those in flight may end, but for streams that only listen, which never do and
    are cut; then what is still to be recorded is recorded."""
    state.is_draining = True
    keeper.close()
    door.drain()
    approvals.close()
    loop = asyncio.get_running_loop()
    until = loop.time() + config.limits.drain_s
    while counters.in_flight > counters.listening and loop.time() < until:  # noqa: ASYNC110 - stops
        await asyncio.sleep(IN_FLIGHT_LOOK_S)
    await door.shutdown(1.0)
    left = await queue.drain(max(1.0, until - loop.time()))
    if left:
        _log.error("entries were left unrecorded", extra={"count": left})


def _tell(config: Config, store: storage.SqlStore, policies: PolicyKeeper) -> None:
    """What an operator should read once in the log."""
    for problem in policies.problems:
        _log.warning("a policy file could be better", extra={"detail": str(problem)})
    for warning in store.facts().warnings:
        _log.warning("the store's engine", extra={"detail": warning})
    wanted = config.limits.connections
    if (served := connections_max(wanted)) < wanted:
        _log.warning(
            "the system lets this process open too few files for `limits.connections`",
            extra={
                "detail": f"{open_files_max()} files: {served} connections of agents are served",
                "next_step": f"Raise `ulimit -n` (LimitNOFILE of a unit) to {needed_for(wanted)}, "
                "or lower `limits.connections`.",
            },
        )
    if config.default == "observe":
        _log.warning("default is observe: nothing is refused by policy")
