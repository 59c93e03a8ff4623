"""Makes what notices: the watcher, what makes alerts of hits and responds to them, and the sweep
over older receipts.

Knows: which rooms and settings each of them takes, and which refusals are the store's. Part of the
composition root, for a sidecar with listeners and for one without.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.soc.beside import Beside
from sidecar.soc.chain_sweep import ChainSweep
from sidecar.soc.deliveries import Told
from sidecar.soc.incidents import Incidents
from sidecar.soc.levels import LEVELS
from sidecar.soc.loading import detections_of
from sidecar.soc.raising import Raiser
from sidecar.soc.responding import Responding
from sidecar.soc.response_notes import ContainmentNotes, ResponseNotes
from sidecar.soc.watch_counts import WatchCounts
from sidecar.soc.watch_rooms import Rooms
from sidecar.soc.watch_share import Share
from sidecar.soc.watcher import Watcher

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.identity.containing import Containing
    from sidecar.ledger.fence import Fence
    from sidecar.policy_files import PolicyKeeper
    from sidecar.telemetry.counters import Counters
    from storage import SqlStore
    from storage.write_queue import WriteQueue

#: Reasons of a call that failed closed which are not the store's state.
_NOT_THE_STORE: Final = frozenset(
    {
        "condition_error",
        "stale_decision",
        "internal_error",
        "shutting_down",
        "bodies_full",
        "run_unreadable",
        "unrecordable",
    }
)
#: Reasons that are codes of store events themselves; the others are all `store_unavailable`.
_CODES: Final = frozenset({"queue_full", "store_fenced", "store_moved"})


class Starts(Protocol):
    """Where background tasks are kept."""

    def start(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Begins one."""
        ...


@dataclass(frozen=True, slots=True)
class Watching:
    """What runs in the background, and what people do with what it notices."""

    watcher: Watcher
    sweep: ChainSweep
    incidents: Incidents

    def start(self, tasks: Starts) -> None:
        """Begins it."""
        tasks.start(self.watcher.run(), "detections")
        tasks.start(self.sweep.run(), "chains")


class Tells(Protocol):
    """Who is told: the sinks, and a ring when there is something for them."""

    told: tuple[Told, ...]

    def ring(self) -> None:
        """Something was put, and is durable."""
        ...


def store_refusals(denied: Mapping[str, int]) -> dict[str, int]:
    """Of the calls that failed closed, those the store's state refused, by code of the event."""
    found: dict[str, int] = {}
    for reason, count in denied.items():
        if reason not in _NOT_THE_STORE:
            code = reason if reason in _CODES else "store_unavailable"
            found[code] = found.get(code, 0) + count
    return found


async def begun_watching(
    stack: AsyncExitStack,
    config: Config,
    clock: Clock,
    store: SqlStore,
    queue: WriteQueue,
    policies: PolicyKeeper,
    counters: Counters,
    fence: Fence,
    containing: Containing,
    telling: Tells,
) -> Watching:
    """What watches; from here on nothing that is recorded is passed over. Its marks are kept a last
    time when the stack ends. Raises a StoreError."""
    counts = WatchCounts()
    incidents = Incidents(store, queue, clock, fence)
    notes = ResponseNotes(store, incidents, clock)
    containing.notes = ContainmentNotes(incidents)
    responding = Responding(store, containing, notes, counts)
    raiser = Raiser(
        store,
        queue,
        clock,
        counts,
        level=LEVELS[config.soc.level],
        sinks=telling.told,
        told=telling.ring,
        responds=responding,
    )
    share = Share(
        cpu_ns=time.thread_time_ns,
        monotonic_ns=clock.monotonic_ns,
        calls=lambda: counters.intents + sum(counters.refusals.values()),
    )
    rooms = Rooms(
        store=store,
        clock=clock,
        share=share,
        counts=counts,
        detections=lambda: detections_of(policies),
        raises=raiser,
    )
    beside = Beside(rooms)
    is_alone = not store.has_leases
    watcher = Watcher(
        config.tenants,
        rooms,
        beside,
        fence,
        refusals=lambda: store_refusals(counters.denied_fail_closed),
        is_alone=is_alone,
    )
    await watcher.begin()
    stack.push_async_callback(watcher.close)
    sweep = ChainSweep(tuple(config.tenants), rooms, fence, beside.broke)
    return Watching(watcher, sweep, incidents)
