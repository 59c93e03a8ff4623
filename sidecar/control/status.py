"""What the running sidecar says of itself on control.sock: one plain JSON object.

Knows: which facts an operator wants at a glance. No secret, no agent and no argument is in it.
Must not know: the socket, who asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sidecar
from sidecar.clock import Clock
from sidecar.telemetry.metrics import LANES
from sidecar.telemetry.sources import Sources


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same while the process lives. `upstreams` is kind by name."""

    boot_id: str
    node_id: str
    started_ns: int
    data_dir: str
    data_url: str
    control_url: str
    upstreams: Mapping[str, str]


def status_of(
    identity: Identity, sources: Sources, clock: Clock, *, not_ready: Sequence[str]
) -> dict[str, Any]:
    """The whole status. `not_ready` is why calls cannot be served now."""
    return {
        "version": sidecar.__version__,
        "pid": os.getpid(),
        "boot_id": identity.boot_id,
        "node_id": identity.node_id,
        "uptime_s": round((clock.monotonic_ns() - identity.started_ns) / 1e9, 1),
        "ready": not not_ready,
        "not_ready": list(not_ready),
        "default": sources.default,
        "data_dir": identity.data_dir,
        "listen": {"data": identity.data_url, "control": identity.control_url},
        "upstreams": dict(identity.upstreams),
        "policies": _policies(sources),
        "calls": _calls(sources),
        "queue": _queue(sources),
        "store": _store(sources),
    }


def _policies(sources: Sources) -> dict[str, Any]:
    keeper = sources.policies
    return {
        "revision": keeper.current.revision,
        "rules": keeper.current.rule_count,
        "loaded_at_us": keeper.loaded_at_us,
        "files_are_in_force": keeper.reload_succeeded,
        "problems": [str(problem) for problem in keeper.problems],
    }


def _calls(sources: Sources) -> dict[str, Any]:
    counters = sources.counters
    return {
        "in_flight": counters.in_flight,
        "intents": counters.intents,
        "forwarded": counters.forwarded,
        "refused": sum(counters.refusals.values()),
        "unrecorded_refusals": counters.unrecorded_refusals + sources.recorder.unrecorded_refusals,
        "outcomes": {str(kind): count for kind, count in counters.outcomes.items()},
    }


def _queue(sources: Sources) -> dict[str, Any]:
    queue = sources.queue
    rejected = {
        "committed": queue.counters.committed.rejected,
        "queued": queue.counters.queued.rejected,
    }
    return {
        "capacity": queue.capacity,
        "oldest_age_s": round(queue.oldest_age_s(), 6),
        "reserved": queue.reserved,
        "lanes": {
            lane: {"depth": queue.depth(lane), "rejected": dict(rejected[lane])} for lane in LANES
        },
    }


def _store(sources: Sources) -> dict[str, Any]:
    pressure, facts, queue = sources.pressure(), sources.store_facts(), sources.queue
    last_error = queue.counters.last_error_code
    sentence = pressure.sentence
    if not queue.healthy:
        sentence = f"The store does not commit ({last_error}): calls are refused. {sentence}"
    return {
        "sentence": sentence,
        "healthy": queue.healthy,
        "last_error": last_error,
        "engine": facts.engine,
        "engine_version": facts.version,
        "nearest_limit": pressure.nearest_limit,
        "commit_fixed_s": pressure.fixed_s,
        "commit_per_call_s": pressure.per_call_s,
        "largest_batch_calls": pressure.largest_batch_calls,
        "ceiling_calls_per_s": pressure.ceiling_calls_per_s,
        "committed_calls_per_s": pressure.committed_calls_per_s,
        "utilisation": pressure.utilisation,
        "headroom_calls_per_s": max(
            0.0, pressure.ceiling_calls_per_s - pressure.committed_calls_per_s
        ),
        "writer_busy": pressure.writer_busy,
        "loop_busy": pressure.loop_busy,
        "file_bytes": facts.file_bytes,
        "wal_bytes": facts.wal_bytes,
        "busy_retries": facts.busy_retries_total,
        "warnings": list(facts.warnings),
    }
