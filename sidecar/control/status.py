"""What the running sidecar says of itself on control.sock: one plain JSON object.

Knows: which facts an operator wants at a glance, and what can be done about a limit that is near,
by what the limit is and which engine stores. No secret, no agent and no argument is in it.
Must not know: the socket, who asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sidecar
from sidecar.clock import Clock
from sidecar.telemetry.counters import Histogram
from sidecar.telemetry.sources import Sources
from sidecar.telemetry.store_metrics import LANES
from storage.forecast import Forecast, Outlook, trend_sentence
from storage.pressure import NEAR, Snapshot

#: From this share of the nearer limit on, something should be planned; at NEAR it is late.
PLAN = 0.7
#: A forecast within this time is worth a plan too.
PLAN_DAYS = 30.0
#: If the fixed part has this share of the cost at the ceiling, the disk (or the way to the
#: database) decides, otherwise the rows do.
FIXED_PART_DECIDES = 0.25
#: What is known of a store that says nothing: a cause, and what to do.
_HANGS = (
    "a commit does not end, or not in the time for which callers wait",
    "Look at the disk, or the database server. Calls go on by themselves once commits end in time.",
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same while the process lives. `upstreams` is kind by name, `calibrated` says
    when the store was calibrated, `store_file` is the store's file where it is one."""

    boot_id: str
    node_id: str
    started_ns: int
    data_dir: str
    data_url: str
    control_url: str
    upstreams: Mapping[str, str]
    calibrated: str = ""
    store_file: Path | None = None


def status_of(
    identity: Identity,
    sources: Sources,
    clock: Clock,
    *,
    not_ready: Sequence[str],
    stalled: str = "",
    outlook_at: Callable[[float], Outlook] | None = None,
    backed_up: str,
) -> dict[str, Any]:
    """The whole status. `not_ready` is why calls cannot be served now, `stalled` that of it which
    is about the store; `outlook_at(ceiling)` says what the kept trend comes to at that ceiling,
    `backed_up` what is known of backups."""
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
        "store": _store(identity, sources, stalled, outlook_at, backed_up),
    }


def _policies(sources: Sources) -> dict[str, Any]:
    keeper = sources.policies
    return {
        "revision": keeper.current.revision,
        "rules": keeper.current.rule_count,
        "rules_in_shadow": keeper.current.shadow_count,
        "loaded_at_us": keeper.loaded_at_us,
        "files_are_in_force": keeper.reload_succeeded,
        "problems": [str(problem) for problem in keeper.problems],
    }


def _calls(sources: Sources) -> dict[str, Any]:
    counters = sources.counters
    return {
        "in_flight": counters.in_flight,
        "held": sources.approvals.waiting.count if sources.approvals is not None else 0,
        "added": _added(counters.added_seconds),
        "intents": counters.intents,
        "forwarded": counters.forwarded,
        "refused": sum(counters.refusals.values()),
        "unrecorded_refusals": counters.unrecorded_refusals + sources.recorder.unrecorded_refusals,
        "outcomes": {str(kind): count for kind, count in counters.outcomes.items()},
    }


def _added(added: Histogram) -> dict[str, Any]:
    """What the sidecar itself added to calls since it started."""
    return {
        "calls": added.count,
        "p50_s": added.quantile_s(0.5),
        "p99_s": added.quantile_s(0.99),
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


def _store(
    identity: Identity,
    sources: Sources,
    stalled: str,
    outlook_at: Callable[[float], Outlook] | None,
    backed_up: str,
) -> dict[str, Any]:
    pressure, facts, queue = sources.pressure(), sources.store_facts(), sources.queue
    outlook = outlook_at(pressure.ceiling_calls_per_s) if outlook_at is not None else None
    forecast = outlook.forecast if outlook is not None else None
    last_error = queue.counters.last_error_code
    sentence = pressure.sentence
    cause = next_step = ""
    if stalled:
        # Of a commit that hangs there is no error, and nothing is used of any limit.
        sentence = f"{stalled[:1].upper()}{stalled[1:]}. {pressure.sentence}"
        cause, next_step = _HANGS
    if not queue.healthy:
        cause, next_step = queue.counters.last_error, queue.counters.last_error_step
        sentence = f"The store does not commit ({last_error}): calls are refused. {sentence}"
    if fenced := sources.fence.sentence() if sources.fence is not None else "":
        sentence = f"{fenced} {sentence}"
    return {
        "sentence": sentence,
        "trend": trend_sentence(outlook) if outlook is not None else "",
        "advice": advice(facts.engine, pressure, forecast),
        "calibrated": identity.calibrated,
        "backed_up": backed_up,
        "forecast": _forecast(forecast),
        "days_known": outlook.days_known if outlook is not None else 0,
        "peak_utilisation_of_last_day": outlook.peak_store if outlook is not None else 0.0,
        "peak_loop_busy_of_last_day": outlook.peak_process if outlook is not None else 0.0,
        "healthy": queue.healthy and not stalled,
        "fenced": sources.fence is not None and sources.fence.is_up,
        "last_error": last_error,
        "cause": cause,
        "next_step": next_step,
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


def _forecast(forecast: Forecast | None) -> dict[str, Any] | None:
    if forecast is None:
        return None
    return {
        "resource": forecast.resource,
        "limit": forecast.limit,
        "days": round(forecast.days, 1),
        "growth_per_day": forecast.growth_per_day,
    }


def advice(engine: str, pressure: Snapshot, forecast: Forecast | None) -> str:
    """What to do about the nearer limit, or about the one that is forecast; "" while nothing is."""
    nearest = max(pressure.utilisation, pressure.loop_busy)
    resource = pressure.nearest_limit
    if nearest < PLAN:
        if forecast is None or forecast.days > PLAN_DAYS:
            return ""
        resource = forecast.resource
    when = "Now" if nearest >= NEAR else "Plan ahead"
    cures = _store_cures(engine, pressure) if resource == "store" else _process_cures(engine)
    return f"{when}: {cures}"


def _store_cures(engine: str, pressure: Snapshot) -> str:
    fixed_s = pressure.fixed_s / pressure.largest_batch_calls
    disk_decides = fixed_s >= FIXED_PART_DECIDES * (fixed_s + pressure.per_call_s)
    if engine == "sqlite":
        first = (
            "a faster disk raises the ceiling most, as each commit waits for it"
            if disk_decides
            else "a faster core raises the ceiling, a faster disk hardly does"
        )
        return (
            f"{first}; beyond one writer, move to PostgreSQL (`store move`) and start a second "
            "sidecar on it."
        )
    first = (
        "bring the database nearer or give it a faster disk, as each commit waits for it"
        if disk_decides
        else "give the database a faster core"
    )
    return (
        f"{first}; a second sidecar helps where there are several tenants, as a tenant's receipts "
        "are one chain: one busy tenant gains by larger batches only, so let more calls come at "
        "once to fewer sidecars."
    )


def _process_cures(engine: str) -> str:
    if engine == "sqlite":
        return (
            "give the sidecar a faster core; or divide the agents over more sidecars, each with a "
            "store of its own, or over several on one PostgreSQL (`store move`)."
        )
    return "start a second sidecar on the same database, or give this one a faster core."
