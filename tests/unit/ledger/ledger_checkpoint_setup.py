"""Keys, stores and a checkpointer for the tests of signed heads; all of it real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ledger_setup import draft

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpoint_export import Exporter
from sidecar.ledger.checkpoint_targets import made_target
from sidecar.ledger.checkpointer import Checkpointer
from sidecar.ledger.fence import Fence
from sidecar.signed_note import SigningKey
from storage.records import Entry
from storage.sql_store import SqlStore
from storage.tree import TreeWriter


def key_of(number: int) -> SigningKey:
    """The same key for the same number."""
    return SigningKey(pem_of(number))


def pem_of(number: int) -> str:
    private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class StillClock(Clock):
    """Its monotonic time goes only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.ns = 0
        self.monotonic_ns = lambda: self.ns  # type: ignore[method-assign]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqlStore]:
    store = await storage.open_store(f"sqlite:///{folder}/aegis.db", now_us=lambda: 1, node_id="n")
    try:
        await store.compare({})
        yield store
    finally:
        await store.close()


async def record(
    store: SqlStore, count: int, tenant: str = "default", *, who: str = "agent-1"
) -> None:
    """So many more receipts; the same ones in the same place, unless they are somebody else's."""
    start = (await store.head(tenant)).seq
    for first in range(0, count, 500):
        numbers = range(first, min(first + 500, count))
        drafts = [
            draft(start + number + 1, tenant, kind="control", agent_id=who) for number in numbers
        ]
        await store.record([Entry(one) for one in drafts], seal)


def checkpointer(
    store: SqlStore,
    *targets: str,
    clock: Clock | None = None,
    key: SigningKey | None = None,
    every_s: float = 10.0,
    receipts: int = 1000,
    fence: Fence | None = None,
) -> Checkpointer:
    clock, key = clock or StillClock(), key or key_of(1)
    keep = TreeWriter(store).set_checkpoint
    exporters = [
        Exporter(made_target(text, store, key), clock, keep, backoff_first_s=0.01)
        for text in targets
    ]
    return Checkpointer(
        store, clock, fence or Fence(), key,
        every_s=every_s, receipts=receipts, exporters=exporters,
    )  # fmt: skip


async def until(is_so: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    """Waits for it, a moment at a time."""
    for _ in range(int(seconds * 200)):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"never: {what}")


async def signed_now(store: SqlStore, *targets: str, key: SigningKey | None = None) -> None:
    """Signs and delivers whatever moved."""
    one = checkpointer(store, *targets, key=key)
    await one.begin()
    await one.close()


def sizes(notes: Sequence[str]) -> list[int]:
    return [int(note.split("\n")[1]) for note in notes]
