"""The composition of a wrapped server: the rooms of the sidecar between an agent's pipes and its
server's, without listeners.

Knows: which rooms it needs and in what order; that a store belongs to one process, so that each
further process of one name gets a store of its own beside the first; how both sides end.
Must not know: what a line means, where the configuration came from.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.clock import Clock
from sidecar.config.identity import every_agent
from sidecar.config.model import Config, Upstream
from sidecar.config.store_url import SQLITE
from sidecar.errors import StartRefused
from sidecar.identity.callers import made_callers
from sidecar.ledger.fence import Fence
from sidecar.ledger.pin_keeper import PinKeeper
from sidecar.proxy.bindings import KEY_BYTES, Bindings
from sidecar.proxy.mcp_sessions import McpSessions
from sidecar.proxy.pipeline import Pipeline
from sidecar.proxy.stdio.agent import AgentPipes
from sidecar.proxy.stdio.child import Child
from sidecar.proxy.stdio.session import StdioSession
from sidecar.rooms import (
    Tasks,
    made_approvals,
    made_masking,
    made_pipeline,
    made_policies,
    secrets_of,
    settle,
    start_upkeep,
)
from sidecar.soc_rooms import begun_watching
from sidecar.telemetry.counters import Counters
from sidecar.telemetry.logs import Logs
from sidecar.telling_rooms import Telling
from sidecar.wrap.control import LateControl, NoDoor
from sidecar.wrap.files import STORE_NAME, make_folder
from sidecar.write_path import (
    begun_boot,
    begun_checkpoints,
    made_queue,
    made_recorder,
    opened_store,
    record_in_force,
    run_keeper,
)
from storage.errors import StoreHeld
from storage.pressure import Pressure
from storage.sql_store import SqlStore
from storage.write_queue import BATCH_MAX

if TYPE_CHECKING:
    from sidecar.control.state import ControlState

_log = logging.getLogger("aegis.wrap")

#: Processes of one name at once, each with a store of its own.
STORES_MAX: Final = 16
#: For a server to end by itself: when its input ended, when its output did, after SIGTERM. Agents
#: wait 2 s after each step before the next; what comes after SIGTERM must fit into that.
INPUT_ENDED_S: Final = 5.0
OUTPUT_ENDED_S: Final = 1.0
TERM_S: Final = 1.2
#: For what a server that has ended still said, where something it started holds its output.
LAST_LINES_S: Final = 0.5
#: For calls in flight to be concluded, and for what was recorded to be durable.
CONCLUDE_S: Final = 2.0
FLUSH_S: Final = 1.0

#: Signals that end a process; the server gets them, and only so long to follow.
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PASSED_ON: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What is wrapped: the configuration, the upstream that is the server, and where its stores
    stand: `folder` is None where the configuration names the one store there is."""

    config: Config
    upstream: Upstream
    folder: Path | None
    #: Variables of our environment that hold our secrets.
    variables: frozenset[str] = frozenset()


async def run_wrapped(
    wrapped: Wrapped,
    child: Child,
    ends: tuple[int, int],
    tell: Callable[[Config], None],
) -> int:
    """Carries lines between the file descriptors `ends` (from the agent, to it) and the server
    until one of them ends; gives the server's exit status. `tell` hears what is in use.

    Raises SidecarError or StoreError when it cannot start; the server is ended in any case.
    """
    clock = Clock()
    async with AsyncExitStack() as stack:
        await child.open()
        stack.push_async_callback(child.end, TERM_S)
        logs = Logs(
            monotonic_ns=clock.monotonic_ns,
            secrets=secrets_of(wrapped.config),
            level=logging.WARNING,
        )
        stack.callback(logs.stop)
        upstream = wrapped.upstream
        agent = AgentPipes(*ends, line_bytes_max=upstream.limits.request_bytes)
        stack.callback(agent.close)
        session = StdioSession(upstream, wrapped.config.limits, agent, child)
        config, pipeline = await _rooms(stack, wrapped, session, clock)
        settle()
        tell(config)
        return await _carry(session, agent, child, pipeline)


async def _rooms(
    stack: AsyncExitStack, wrapped: Wrapped, session: StdioSession, clock: Clock
) -> tuple[Config, Pipeline]:
    """Opens what a call needs on its way; with the configuration as the store made it."""
    wrapped = replace(wrapped, config=_of_one_agent(wrapped.config))
    policies = made_policies(wrapped.config, clock)
    policies.load_first()
    boot_id, fence = clock.new_id(), Fence()
    config, store = await _free_store(stack, wrapped, clock, boot_id, fence)
    checkpoints = await begun_checkpoints(stack, config, clock, store, fence)
    boot, _ = await begun_boot(stack, config, clock, store, boot_id, fence)
    # One agent on its own machine: nobody asks how near the store is to its ceiling.
    pressure = Pressure(
        batch_entries_max=BATCH_MAX,
        monotonic_ns=clock.monotonic_ns,
        loop_cpu_ns=time.thread_time_ns,
    )
    queue = made_queue(config, store, pressure, clock)
    stack.push_async_callback(queue.close)
    await record_in_force(config, clock, store, queue, fence, policies)
    recorder = made_recorder(config, clock, queue, store, boot_id, fence)
    callers = await made_callers(stack, config, clock, store, queue, fence, policies.catalogue)
    runs, counters = run_keeper(config, clock, store), Counters(config.upstreams)
    pins = PinKeeper(store, queue, clock, fence, is_alone=not store.has_leases)
    telling = Telling(config, clock, store, queue, fence, callers.containing, has_listeners=False)
    news = telling.approval_news
    approvals = made_approvals(config, clock, store, queue, fence, news, has_listeners=False)
    pipeline = made_pipeline(
        config, clock, policies, recorder, callers, runs, pins, session, counters, fence, approvals,
        # Over a pipe there are no ids to bind, and the session knows what was asked.
        McpSessions(Bindings(clock.random_bytes(KEY_BYTES))), made_masking(stack),
    )  # fmt: skip
    watching = await begun_watching(
        stack, config, clock, store, queue, policies, counters, fence, callers.containing, telling
    )
    tasks = Tasks(stack)
    tasks.start(policies.run(), "policies")
    tasks.start(boot.run(queue), "heartbeat")
    watching.start(tasks)
    start_upkeep(config, tasks, store, clock, fence, callers, approvals, checkpoints, telling)

    started_ns = clock.monotonic_ns()

    def made_state() -> ControlState:
        from sidecar.control.caller_care import CallerCare
        from sidecar.control.run_care import RunCare
        from sidecar.control.state import ControlState
        from sidecar.control.tool_care import ToolCare

        return ControlState(
            config=config, clock=clock, boot_id=boot_id, counters=counters, queue=queue,
            pressure=pressure, store=store, policies=policies, recorder=recorder, door=NoDoor(),
            runs=RunCare(config, clock, store=store, queue=queue, runs=runs, fence=fence),
            tools=ToolCare.of_config(config, pins), pins=pins, approvals=approvals,
            has_listeners=False, started_ns=started_ns, checkpoints=checkpoints,
            callers=CallerCare(config, callers, store), watch=watching.watcher,
            incidents=watching.incidents, telling=telling,
        )  # fmt: skip

    control = LateControl(config.data_dir, tasks, made_state)
    control.start()
    stack.push_async_callback(control.stop)

    async def drain() -> None:
        if left := await queue.drain(CONCLUDE_S):
            _log.error("entries were left unrecorded", extra={"count": left})

    stack.push_async_callback(drain)
    return config, pipeline


def _of_one_agent(config: Config) -> Config:
    """Whoever starts us is the agent: a pipe carries no credential. Raises StartRefused."""
    if config.default_agent is not None:
        return config
    agents = [key for key, _ in every_agent(config.tenants)]
    if len(agents) != 1:
        raise StartRefused(
            "it is not clear which agent this is: name it as identity.default_agent, e.g. with "
            f"--set identity.default_agent={'/'.join(agents[0])}"
        )
    return config.model_copy(update={"default_agent": agents[0]})


async def _free_store(
    stack: AsyncExitStack, wrapped: Wrapped, clock: Clock, boot_id: str, fence: Fence
) -> tuple[Config, SqlStore]:
    """The first store of this name that no other process has.

    An agent may start one server several times, and several agents may start it: each must work,
    and none may wait for another. Raises StartRefused where all are taken.
    """
    if wrapped.folder is None:
        try:
            store, _ = await opened_store(stack, wrapped.config, clock, boot_id, fence)
        except StoreHeld as error:
            raise StartRefused(
                f"another process has the store {wrapped.config.store}, and a store belongs to one "
                "process: take `store:` out of the configuration, and each gets one of its own"
            ) from error
        return wrapped.config, store
    for number in range(1, STORES_MAX + 1):
        folder = wrapped.folder if number == 1 else wrapped.folder / str(number)
        make_folder(folder)
        config = wrapped.config.model_copy(
            update={"store": f"{SQLITE}{folder / STORE_NAME}", "data_dir": folder}
        )
        try:
            store, _ = await opened_store(stack, config, clock, boot_id, fence, is_only_store=False)
        except StoreHeld:
            continue
        return config, store
    raise StartRefused(
        f"{STORES_MAX} processes already wrap {wrapped.upstream.name}: end some of them, or give "
        "this one a --data-dir of its own"
    )


async def _carry(session: StdioSession, agent: AgentPipes, child: Child, pipeline: Pipeline) -> int:
    """Carries until the agent leaves, the server ends or a signal tells to; then ends both."""
    told = _signals(child)
    agent.start()
    loop = asyncio.get_running_loop()
    taking = loop.create_task(
        session.take_in(pipeline.handle, pipeline.refuse_head), name="take-in"
    )
    giving = loop.create_task(session.give_out(pipeline.said_by_server), name="give-out")
    ends = [loop.create_task(one.wait()) for one in (agent.gone, child.exited, told)]
    await asyncio.wait({taking, giving, *ends}, return_when=asyncio.FIRST_COMPLETED)
    agent_left = agent.is_gone or taking.done()
    if not told.is_set():
        child.close_input()
        wait_s = INPUT_ENDED_S if agent_left and not giving.done() else OUTPUT_ENDED_S
        await asyncio.wait(ends[1:], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    if told.is_set():
        await child.ended_within(TERM_S)
        child.signal(signal.SIGKILL)
    await child.end(TERM_S, closes_output=False)
    await asyncio.wait({giving}, timeout=LAST_LINES_S)
    await session.finish(
        is_clients_end=agent_left, is_draining=told.is_set() and not agent_left, wait_s=CONCLUDE_S
    )
    await agent.flush(FLUSH_S)
    return _ended([taking, giving, *ends], child)


def _ended(tasks: Sequence[asyncio.Task[object]], child: Child) -> int:
    """The server's status; 1 if it could not be ended, or if what carried its lines failed and it
    says nothing is wrong."""
    failed = False
    for task in tasks:
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is not None:
            _log.error("the wrapping failed", exc_info=task.exception())
            failed = True
    return 1 if child.status is None else child.status or int(failed)


def _signals(child: Child) -> asyncio.Event:
    """Passes signals on to the server; the event is set by those that end."""
    told = asyncio.Event()

    def end(number: int) -> None:
        child.signal(number)
        told.set()

    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, end, number)
    for number in _PASSED_ON:
        loop.add_signal_handler(number, child.signal, number)
    return told
