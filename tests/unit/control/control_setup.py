"""A running control plane over a real store and a real write queue; policies are settable."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import storage
from sidecar.clock import Clock
from sidecar.config.model import Address, Config, Listen, Tenant, Upstream, UpstreamLimits
from sidecar.control.state import ControlState
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.telemetry.counters import Counters
from storage.pressure import Pressure
from storage.records import Entry
from storage.write_queue import WriteQueue


@dataclass
class Setup:
    """What a test may touch."""

    state: ControlState
    config: Config
    store: storage.SqlStore
    queue: WriteQueue
    policies: SimpleNamespace
    counters: Counters
    probes: list[BaseException | None]
    clock: Clock

    async def record(self) -> None:
        """One receipt through the queue."""
        clock = self.clock
        await self.queue.submit(
            Entry(
                blank_receipt(
                    "default",
                    "refusal",
                    event_id=clock.new_id(),
                    call_id=clock.new_id(),
                    ts_us=clock.now_us(),
                )
            )
        )


def make_config(folder: Path, **changes: Any) -> Config:
    local = ("127.0.0.1", "localhost", "::1")
    parts: dict[str, Any] = {
        "listen": Listen(
            data=Address(host="127.0.0.1", port=8080, hosts=local),
            control=Address(host="127.0.0.1", port=0, hosts=local),
        ),
        "store": f"sqlite:///{folder / 'aegis.db'}",
        "data_dir": folder,
        "policies": (),
        "tenants": {"default": Tenant(agents={})},
        "default_agent": None,
        "upstreams": {
            "github": Upstream(
                name="github",
                url="https://api.github.com",
                limits=UpstreamLimits(request_bytes=1024),
            )
        },
    }
    return Config(**(parts | changes))


def make_policies() -> SimpleNamespace:
    async def reload(actor: str) -> SimpleNamespace:
        assert actor.startswith("socket:")
        return SimpleNamespace(succeeded=policies.reload_succeeded, text="said")

    policies = SimpleNamespace(
        current=SimpleNamespace(revision="ab" * 16, rule_count=12, shadow_count=0),
        reload_succeeded=True,
        loaded_at_us=1,
        reloads=1,
        failures=0,
        problems=(),
        reload=reload,
    )
    return policies


@asynccontextmanager
async def control_plane(
    folder: Path, *, queue_wait_s: float = 2.0, **changes: Any
) -> AsyncIterator[Setup]:
    clock = Clock()
    config = make_config(folder, **changes)
    store = await storage.open_store(config.store, now_us=clock.now_us, node_id="n1")
    pressure = Pressure(
        batch_entries_max=512, monotonic_ns=clock.monotonic_ns, loop_cpu_ns=lambda: 0
    )
    queue = WriteQueue(
        store,
        seal,
        capacity=64,
        wait_s=queue_wait_s,
        monotonic_ns=clock.monotonic_ns,
        on_batch=pressure.observe,
    )
    policies, counters = make_policies(), Counters(config.upstreams)
    probes: list[BaseException | None] = []

    async def probe() -> None:
        error = probes[0] if probes else None
        if error is not None:
            raise error
        await store.probe()

    state = ControlState(
        config=config,
        clock=clock,
        boot_id="b1",
        counters=counters,
        queue=queue,
        pressure=pressure,
        store=SimpleNamespace(node_id=store.node_id, facts=store.facts, probe=probe),
        policies=policies,
        recorder=SimpleNamespace(unrecorded_refusals=0, left_open=0),
        door=SimpleNamespace(
            open_connections=0, malformed_total=Counter(), turned_away_total=Counter()
        ),
    )
    try:
        yield Setup(state, config, store, queue, policies, counters, probes, clock)
    finally:
        await queue.close()
        await store.close()
