"""What the tests of telemetry and control share: real counting objects, and settable stand-ins
for the rooms whose own tests live elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

from sidecar.approvals.register import Register
from sidecar.soc.watch_counts import WatchCounts
from sidecar.telemetry.counters import Counters
from sidecar.telemetry.sources import Sources
from sidecar.telemetry.store_surroundings import Surroundings
from storage.driver import StoreFacts
from storage.pressure import Point, Pressure
from storage.queue_counters import QueueCounters

FACTS = StoreFacts(
    engine="sqlite",
    version="3.40.1",
    wal_bytes=4096,
    file_bytes=65536,
    checkpoint_seconds_total=0.25,
    checkpoints_total=3,
    checkpoint_failures_total=0,
    busy_retries_total=2,
    reopened_total=0,
    commits_total=7,
    rows_total=21,
    warnings=("mind this",),
)


class FakeQueue:
    """The queue's attributes that are read, settable."""

    def __init__(self) -> None:
        self.counters = QueueCounters()
        self.capacity = 100
        self.healthy = True
        self.reserved = 1
        self.depths = {"committed": 3, "queued": 5}

    def depth(self, lane: str) -> int:
        return self.depths[lane]

    def oldest_age_s(self) -> float:
        return 0.125


def make_pressure() -> Pressure:
    """Seeded: 1 ms a commit and 10 µs a call, so the ceiling at 256 calls is about 71.9k/s."""
    points = [Point(n, 0.001 + n * 0.00001) for n in (1, 16, 256)]
    return Pressure(
        batch_entries_max=512,
        monotonic_ns=time.perf_counter_ns,
        loop_cpu_ns=time.thread_time_ns,
        seeds=points,
    )


async def _surroundings() -> Surroundings:
    return Surroundings(free_bytes=12_000_000_000, backup_at_us=1_699_000_000_000_000)


def make_sources(upstreams: tuple[str, ...] = ("github", "files"), **changes: Any) -> Sources:
    parts: dict[str, Any] = {
        "counters": Counters(upstreams),
        "queue": FakeQueue(),
        "pressure": make_pressure().snapshot,
        "store_facts": lambda: FACTS,
        "policies": SimpleNamespace(
            current=SimpleNamespace(revision="ab" * 16, rule_count=12, shadow_count=5),
            reload_succeeded=True,
            loaded_at_us=1_700_000_000_000_000,
            reloads=2,
            failures=1,
            problems=(),
        ),
        "recorder": SimpleNamespace(unrecorded_refusals=4, left_open=0),
        "door": SimpleNamespace(
            open_connections=6,
            malformed_total=Counter({"ambiguous_path": 9}),
            turned_away_total=Counter({"per_address": 1, "connections": 0}),
        ),
        "logs": SimpleNamespace(waiting=0, suppressed_total=8, dropped_total=0),
        "default": "deny",
        "approvals": SimpleNamespace(
            register=Register(), waiting=SimpleNamespace(count=0), now_us=lambda: 0
        ),
        "deliveries": SimpleNamespace(
            results={("ops", "delivered"): 3, ("ops", "dead"): 1},
            waiting_by_sink=lambda: {"ops": 2},
            dead_by_sink=lambda: {"ops": 1},
            oldest_s_by_sink=lambda: {"ops": 4.5},
        ),
        "callers": SimpleNamespace(
            failures_by_reason={"unknown": 3, "jwt_expired": 1},
            lockouts_total=1,
            agents_by_state=lambda: {"active": 2, "frozen": 1},
            containments_by_action=lambda: {"block-tool": 3, "block-run": 0},
            key_sets={
                "https://idp.acme.io": SimpleNamespace(failures_total=2, age_s=42.5),
                "https://never.io": SimpleNamespace(failures_total=1, age_s=None),
            },
        ),
        "pins": SimpleNamespace(
            drifts_total={"files": 3, "gone": 1},
            drifted_by_upstream=lambda: {"files": 2},
            checks=SimpleNamespace(
                misfits_total={"files": 4}, unchecked_by_upstream=lambda: {"files": 5}
            ),
        ),
        "checkpoints": SimpleNamespace(
            signed_total=5,
            lag_s=lambda: 1.5,
            differing=set(),
            exporters=[
                SimpleNamespace(
                    name="file:/mnt/worm",
                    delivered_total=4,
                    lag_s=lambda: 2.5,
                    failures_total=Counter({"unwritable": 1, "fork": 2, "ahead": 1}),
                )
            ],
        ),
        "watch": SimpleNamespace(
            counts=WatchCounts(
                hits=7,
                raised={"info": 0, "low": 0, "medium": 1, "high": 2, "critical": 0},
                errors={"store_busy": 1},
            ),
            watching=2,
            busy_s=0.75,
            lag_s=lambda: 3.5,
        ),
        "certificates": [
            SimpleNamespace(
                listener="data", expires_us=1_800_000_000_000_000, reload_succeeded=True
            )
        ],
        "upstream_certificates": [
            SimpleNamespace(
                upstream="github", reload_succeeded=True, expires_us=1_900_000_000_000_000
            )
        ],
        "surroundings": _surroundings,
    }
    return Sources(**(parts | changes))
