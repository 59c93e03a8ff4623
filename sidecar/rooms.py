"""Makes the rooms that every composition has in the same way: policies, the way of a call, tasks.

Knows: which settings each of them takes. Part of the composition root; nothing here needs HTTP, so
that a composition without listeners starts without its libraries.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.config.store_url import store_password
from sidecar.identity.registry import Registry
from sidecar.ledger.fence import Fence
from sidecar.ledger.pin_keeper import PinKeeper
from sidecar.ledger.recorder import Recorder
from sidecar.ledger.run_keeper import RunKeeper
from sidecar.policy.load import LoadedPolicies, Source, load_policies
from sidecar.policy_files import Load, PolicyKeeper, ReadFile
from sidecar.proxy.judging import Judging
from sidecar.proxy.pipeline import Pipeline
from sidecar.proxy.tool_lists import ToolLists
from sidecar.proxy.upstream import UpstreamLeg
from sidecar.telemetry.counters import Counters

_log = logging.getLogger("aegis.app")

#: How long the writer's thread may wait for its turn while the event loop computes.
SWITCH_INTERVAL_S = 0.0005
#: New objects before a young collection; what start-up made is frozen out of it.
GC_THRESHOLD = 50_000


def secrets_of(config: Config) -> list[str]:
    """Values that must not reach a log, whatever a library says."""
    upstreams = config.upstreams.values()
    secrets = [u.auth.header_value.reveal() for u in upstreams if u.auth is not None]
    password = store_password(config.store)
    return [*secrets, password] if password else secrets


def made_pipeline(
    config: Config,
    clock: Clock,
    policies: PolicyKeeper,
    recorder: Recorder,
    registry: Registry,
    runs: RunKeeper,
    pins: PinKeeper,
    leg: UpstreamLeg,
    counters: Counters,
    fence: Fence,
) -> Pipeline:
    """The way of a call over these rooms."""
    judging = Judging(
        recorder=recorder, registry=registry, runs=runs, counters=counters, clock=clock, fence=fence
    )
    return Pipeline(
        config=config, policies=policies, judging=judging, lists=ToolLists(policies, pins),
        registry=registry, recorder=recorder, leg=leg, counters=counters, clock=clock,
    )  # fmt: skip


def policy_loader(config: Config) -> Load:
    """How a policy set is loaded under this configuration."""
    kinds = {name: upstream.kind for name, upstream in config.upstreams.items()}

    def load(sources: Sequence[Source], read_file: ReadFile) -> LoadedPolicies:
        return load_policies(
            sources,
            upstreams=kinds,
            default=config.default,
            read_file=read_file,
            secrets=config.record.secrets,
        )

    return load


class Tasks:
    """Background tasks, kept referenced, ended with the stack; a failing one is logged."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._running: set[asyncio.Task[object]] = set()
        stack.push_async_callback(self._end)

    def start(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Begins it."""
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a background task failed", exc_info=task.exception())

    async def _end(self) -> None:
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def settle() -> None:
    """What start-up made stays, and the writer's thread gets its turns."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
