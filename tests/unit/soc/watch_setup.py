"""A real store with receipts in it, watched by real detections; only time is set by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.ledger.receipt import blank_receipt
from sidecar.policy.load import Source
from sidecar.soc.beside import Beside
from sidecar.soc.deliveries import Told
from sidecar.soc.detection import Detections
from sidecar.soc.levels import Level
from sidecar.soc.loading import detections_of, load_all
from sidecar.soc.raising import Raiser
from sidecar.soc.watch_counts import WatchCounts
from sidecar.soc.watch_rooms import Rooms
from sidecar.soc.watch_share import Share
from sidecar.soc.watched import Watched
from storage.errors import StoreUnavailable
from storage.known_heads import Seen
from storage.records import Answer, Entry, ReceiptRow, Unrecordable

BEGAN_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
POLICY = b"policy: all\nrules:\n  - {id: all, effect: allow, tools: up/do}\n"
CATALOGUE = b"catalogue: up\ntools: {do: POST /do}\n"
STORM = """\
detection: storm
severity: high
where: {effect: deny}
at_least: 3
within: 60s
quiet: 1h
"""
STORE = "detection: refusing\nseverity: critical\nevent: store\nquiet: 1h\nby: tenant\n"
CHAIN = "detection: broken\nseverity: critical\nevent: chain\nquiet: 1s\nby: tenant\n"


def detections(*texts: str) -> Detections:
    """Detections as a user writes them."""
    sources = [Source("policy.yaml", POLICY), Source("tools.yaml", CATALOGUE)]
    sources += [Source(f"d{n}.yaml", text.encode()) for n, text in enumerate(texts)]
    loaded = load_all(sources, upstreams={"up": "rest"}, default="deny", read_file=lambda *_: b"")
    assert loaded.policy_set is not None, loaded.problems
    return detections_of(loaded)


class HandClock(Clock):
    """Both clocks stand still until they are moved."""

    def __init__(self) -> None:
        super().__init__()
        self.at_us = BEGAN_US
        self.monotonic_ns = lambda: (self.at_us - BEGAN_US) * 1_000

    def now_us(self) -> int:
        return self.at_us

    def move(self, seconds: float) -> None:
        self.at_us += int(seconds * 1e6)


class Submitting:
    """The write queue, without a queue; `fails` times it cannot, `refuses` times it will not."""

    def __init__(self, store: storage.SqlStore) -> None:
        self._store = store
        self.fails = 0
        self.refuses = 0
        self.submitted = 0

    async def submit(self, entry: Entry) -> Answer:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable
        if self.refuses:
            self.refuses -= 1
            return Unrecordable("it cannot be written")
        self.submitted += 1
        (answer,) = await self._store.record([entry], seal)
        return answer


async def no_sleep(_seconds: float) -> None:
    """Rests take no time here."""


class Desk:
    """The store, and whoever watches it."""

    def __init__(self, store: storage.SqlStore, path: Path, *texts: str) -> None:
        self.store = store
        self.path = path
        self.clock = HandClock()
        self.fence = Fence()
        self.detections = detections(*(texts or (STORM,)))
        self.submitting = Submitting(store)
        self.broken: list[Any] = []
        #: How a watcher rests: not at all.
        self.sleep = no_sleep
        self.counts = WatchCounts()

    def rooms(self, level: Level = Level.LOG, sinks: tuple[Told, ...] = ()) -> Rooms:
        raises = Raiser(
            self.store, self.submitting, self.clock, self.counts, level=level, sinks=sinks
        )
        share = Share(
            cpu_ns=lambda: 0,
            monotonic_ns=self.clock.monotonic_ns,
            calls=lambda: 0,
            sleep=self.sleep,
        )
        return Rooms(
            store=self.store,
            clock=self.clock,
            share=share,
            counts=self.counts,
            detections=lambda: self.detections,
            raises=raises,
        )

    def watched(self, **options: Any) -> Watched:
        """A process's view of tenant acme, as after a start."""
        return Watched("acme", self.rooms(), lambda _, found: self.broken.append(found), **options)

    def beside(self) -> Beside:
        return Beside(self.rooms())

    def head(self) -> Seen:
        return self.store.known.all().get("acme", Seen(0, ""))

    async def refuse(self, count: int, agent: str = "coder", every_s: float = 0.1) -> None:
        """So many refused calls."""
        for _ in range(count):
            self.clock.move(every_s)
            await self.store.record([Entry(self.refused(agent))], seal)

    def refused(self, agent: str = "coder") -> ReceiptRow:
        blank = blank_receipt(
            "acme",
            "refusal",
            event_id=self.clock.new_id(),
            call_id=self.clock.new_id(),
            ts_us=self.clock.now_us(),
            agent_id=agent,
            outcome="denied",
        )
        return blank._replace(decision="deny", mode="enforce", tool="up/do", upstream="up")

    async def look(self, watched: Watched) -> None:
        """Turns until there is nothing to do at once."""
        for _ in range(1_000):
            if not await watched.turn(self.head()):
                return
        raise AssertionError("it never ends")

    async def alerts(self) -> list[Any]:
        return sorted(await self.store.alerts_before("acme", "z", 1_000))

    def tamper(self, sql: str, *parameters: object) -> None:
        """What somebody with the file does to it."""
        with sqlite3.connect(self.path) as connection:
            connection.execute(sql, parameters)
        connection.close()


@asynccontextmanager
async def desk(folder: Path, *texts: str) -> AsyncIterator[Desk]:
    """An empty store, watched by nobody yet."""
    path = folder / "watched.db"
    at: list[Callable[[], int]] = [lambda: BEGAN_US]
    store = await storage.open_store(f"sqlite:///{path}", now_us=lambda: at[0](), node_id="n1")
    try:
        made = Desk(store, path, *texts)
        at[0] = made.clock.now_us
        yield made
    finally:
        await store.close()
