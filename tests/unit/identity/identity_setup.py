"""What the tests of identity share: secrets, a configuration, a real store and a real queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import storage
from sidecar.clock import Clock
from sidecar.config.load import load_config
from sidecar.config.model import Config
from sidecar.identity.callers import Callers, made_callers
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.policy.catalogue import Catalogue
from storage.write_queue import WriteQueue

#: A catalogue that declares no tool.
NOTHING = Catalogue({"shop": {}}, {}, {}, ())
TOKEN = "coder-canary-Qm9Yb2N4a1Zt-1"
OTHER_TOKEN = "rival-canary-Xb2N4a1ZtQm9Y-2"
ANA_KEY = "ana-canary-b2N4a1ZtQm9YXs-3"
TENANTS = """
tenants:
  acme:
    agents:
      coder: {team: platform, token: {file: coder.txt}}
      tester: {}
    people:
      ana: {roles: [approver], groups: leads, key: {file: ana.txt}}
  rival:
    agents: {coder: {token: {file: rival.txt}}}
"""


class MovedClock(Clock):
    """A clock whose wall and monotonic time tests move on."""

    def __init__(self) -> None:
        super().__init__()
        self.moved_s = 0.0
        #: By how much the wall clock was set meanwhile.
        self.wall_s = 0.0

    def now_us(self) -> int:
        return super().now_us() + int((self.moved_s + self.wall_s) * 1e6)

    def monotonic_ns(self) -> int:  # type: ignore[override]
        return Clock.monotonic_ns() + int(self.moved_s * 1e9)


class SteadyMovedClock(MovedClock):
    """Its steady clock moves along: the time has really gone by."""

    def steady_us(self) -> int:
        return super().steady_us() + int(self.moved_s * 1e6)


def write_secrets(folder: Path) -> None:
    """The files that TENANTS refers to."""
    for name, secret in (("coder", TOKEN), ("rival", OTHER_TOKEN), ("ana", ANA_KEY)):
        path = folder / f"{name}.txt"
        path.write_text(secret + "\n")
        path.chmod(0o600)


def configured(folder: Path, more: str = TENANTS) -> Config:
    """A configuration with these tenants."""
    write_secrets(folder)
    path = folder / "sidecar.yaml"
    path.write_text(f"policies: ./p\nupstreams: {{shop: {{url: http://shop.internal}}}}\n{more}")
    loaded = load_config(path, {}, [])
    assert loaded.config is not None, "\n".join(map(str, loaded.problems))
    return loaded.config


@dataclass
class Place:
    """Callers over a store, as one process has them."""

    config: Config
    store: storage.SqlStore
    queue: WriteQueue
    fence: Fence
    callers: Callers
    clock: MovedClock


@asynccontextmanager
async def place(
    folder: Path, config: Config | None = None, url: str = "", clock: MovedClock | None = None
) -> AsyncIterator[Place]:
    """Callers of a configuration; by default over a file in the folder."""
    config = config or configured(folder)
    clock, fence = clock or MovedClock(), Fence()
    store = await storage.open_store(
        url or f"sqlite:///{folder / 'aegis.db'}", now_us=clock.now_us, node_id=f"n{id(clock)}"
    )
    queue = WriteQueue(store, seal, capacity=64, wait_s=5, monotonic_ns=Clock.monotonic_ns)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(queue.close)
        callers = await made_callers(stack, config, clock, store, queue, fence, lambda: NOTHING)
        watch = asyncio.ensure_future(callers.registry.watch())
        stack.callback(watch.cancel)
        yield Place(config, store, queue, fence, callers, clock)
