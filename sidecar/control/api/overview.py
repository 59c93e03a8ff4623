"""The sidecar at a glance: counts of decisions, and the state of the store.

Knows: that a count looks at so many receipts and no more, and says how far it has come.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sidecar.control.api.agents import every_agent
from sidecar.control.api.parameters import SINCE, UNTIL
from sidecar.control.api.route import READERS, Asked, Route, Shape
from sidecar.control.api.times import time_text
from storage.listings import GROUPS_MAX, RECEIPTS_COUNTED, Listings

ROOM: Final = "overview"
READ_S: Final = 10.0
#: The window without `from` and `to`.
USUAL_US: Final = 24 * 3600 * 1_000_000
TOLD_MAX: Final = 100


class CountShape(Shape):
    """Calls of one agent, or to one tool, by what was decided."""

    name: str
    total: int
    allow: int
    deny: int
    require_approval: int


class StatsShape(Shape):
    """Decisions within a window. If there were more than one answer counts, it tells of the newest
    of them: those from `counted_from` on, and `is_complete` is false."""

    counted_from: str
    counted_from_us: int
    counted_until_us: int
    is_complete: bool
    total_decisions: int
    decisions_allow: int
    decisions_deny: int
    decisions_require_approval: int
    by_agent: list[CountShape]
    by_tool: list[CountShape]
    total_agents: int
    total_receipts: int


class AddedShape(Shape):
    """Time that the sidecar itself added to calls since it started: half of them, and 99 of 100,
    had no more; null while there were none."""

    calls: int
    p50_s: float | None
    p99_s: float | None


class NowShape(Shape):
    """Calls at this moment, of all tenants: under way, and of those held for a person's answer."""

    in_flight: int
    held: int
    added: AddedShape


class StoreShape(Shape):
    """How the store does, as `aegis-sidecar store status` says, and the calls before it."""

    version: str
    ready: bool
    not_ready: list[str]
    uptime_s: float
    policy_revision: str
    calls: NowShape
    store: dict[str, Any]
    queue: dict[str, Any]


async def get_stats(asked: Asked) -> dict[str, Any]:
    """Counts of the window, or of the newest part of it."""
    listings, tenant, values = Listings(asked.rooms.reader), asked.tenant, asked.values
    until_us = asked.rooms.clock.now_us() + 1 if values["to"] is None else values["to"]
    since_us = max(0, until_us - USUAL_US) if values["from"] is None else values["from"]
    after, until = await listings.bounds(tenant, since_us, until_us)
    start = max(after, until - RECEIPTS_COUNTED)
    counts = await listings.counts(tenant, start, until) if until > start else []
    if start > after:
        since_us = (await asked.rooms.reader.receipts(tenant, start, 1))[0].ts_us
    total: Counter[str] = Counter()
    by_agent: dict[str, Counter[str]] = {}
    by_tool: dict[str, Counter[str]] = {}
    for one in counts:
        decided = one.decision or "deny"
        total[decided] += one.calls
        by_agent.setdefault(one.agent_id or "", Counter())[decided] += one.calls
        by_tool.setdefault(one.tool or "", Counter())[decided] += one.calls
    return {
        "counted_from": time_text(since_us),
        "counted_from_us": since_us,
        "counted_until_us": until_us,
        "is_complete": start == after and len(counts) < GROUPS_MAX,
        "total_decisions": total.total(),
        "decisions_allow": total["allow"],
        "decisions_deny": total["deny"],
        "decisions_require_approval": total["require_approval"],
        "by_agent": _largest(by_agent),
        "by_tool": _largest(by_tool),
        "total_agents": len(await every_agent(asked)),
        "total_receipts": (await asked.rooms.reader.head(tenant)).seq,
    }


def _largest(counts: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda one: (-one[1].total(), one[0]))
    return [
        {
            "name": name, "total": found.total(), "allow": found["allow"], "deny": found["deny"],
            "require_approval": found["require_approval"],
        }
        for name, found in ordered[:TOLD_MAX]
    ]  # fmt: skip


async def get_store(asked: Asked) -> dict[str, Any]:
    """The state of the store and of the queue before it."""
    said = await asked.rooms.state.status()
    return {
        "version": said["version"],
        "ready": said["ready"],
        "not_ready": said["not_ready"],
        "uptime_s": said["uptime_s"],
        "policy_revision": said["policies"]["revision"],
        "calls": {name: said["calls"][name] for name in NowShape.model_fields},
        "store": said["store"],
        "queue": said["queue"],
    }


ROUTES: Final = (
    Route(
        "get_stats", "GET", "/v1/stats",
        "Decisions of a window, by agent and by tool; without `from` of the last 24 hours",
        READERS, get_stats, StatsShape, (SINCE, UNTIL), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_store", "GET", "/v1/store", "How the store does, and how near its limit is",
        READERS, get_store, StoreShape, time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
