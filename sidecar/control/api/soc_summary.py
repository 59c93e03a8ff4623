"""How a tenant stands: alerts, incidents, and decisions of today and of the last 24 hours.

Knows: that a count looks at so many receipts an hour and no more, and says whether that was all.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sidecar.control.api.agents import every_agent
from sidecar.control.api.route import READERS, Asked, Route, Shape
from sidecar.control.api.times import time_text
from sidecar.soc.alert_states import IncidentState
from sidecar.soc.model import SEVERITIES, Severity
from storage.listings import GROUPS_MAX, RECEIPTS_COUNTED, Listings
from storage.watch_rows import Tally

ROOM: Final = "alerts"
READ_S: Final = 10.0
HOUR_US: Final = 3_600_000_000
HOURS: Final = 24


class HourShape(Shape):
    """Decisions of one hour, which begins at `bucket`."""

    bucket: str
    count: int
    denies: int


class SummaryShape(Shape):
    """`incidents_open` are all that are not closed; `risk_posture` is the highest severity of
    those, `none` without. Today is the day in UTC. Where an hour had more receipts than a count
    looks at, the newest of them are told and `is_complete` is false."""

    alerts_total: int
    alerts_high: int
    incidents_total: int
    incidents_open: int
    incidents_closed: int
    agents_total: int
    approvals_pending: int
    decisions_today: int
    denies_today: int
    deny_rate_today: float
    risk_posture: str
    hourly_decisions_24h: list[HourShape]
    is_complete: bool


async def get_soc_summary(asked: Asked) -> dict[str, Any]:
    """Counts, as they stand now."""
    reader, tenant = asked.rooms.reader, asked.tenant
    alerts = await reader.tally_alerts(tenant)
    incidents = await reader.tally_incidents(tenant)
    standing = [one for one in incidents if one.state != IncidentState.CLOSED]
    now_us = asked.rooms.clock.now_us()
    hours = [now_us // HOUR_US * HOUR_US - back * HOUR_US for back in reversed(range(HOURS))]
    counted = [await _decisions(asked, since_us) for since_us in hours]
    today_us = now_us // (HOURS * HOUR_US) * HOURS * HOUR_US
    today: Counter[str] = sum(
        (
            found
            for since_us, (found, _) in zip(hours, counted, strict=True)
            if since_us >= today_us
        ),
        Counter[str](),
    )
    ranks = [SEVERITIES[one.severity] for one in standing if one.severity in SEVERITIES]
    return {
        "alerts_total": _rows(alerts),
        "alerts_high": _rows([one for one in alerts if _is_high(one)]),
        "incidents_total": _rows(incidents),
        "incidents_open": _rows(standing),
        "incidents_closed": _rows(incidents) - _rows(standing),
        "agents_total": len(await every_agent(asked)),
        "approvals_pending": await reader.count_open_approvals(tenant),
        "decisions_today": today.total(),
        "denies_today": today["deny"],
        "deny_rate_today": round(today["deny"] / today.total(), 4) if today.total() else 0.0,
        "risk_posture": max(ranks).label if ranks else "none",
        "hourly_decisions_24h": [
            {"bucket": time_text(since_us), "count": found.total(), "denies": found["deny"]}
            for since_us, (found, _) in zip(hours, counted, strict=True)
        ],
        "is_complete": all(is_whole for _, is_whole in counted),
    }


async def _decisions(asked: Asked, since_us: int) -> tuple[Counter[str], bool]:
    """Decisions of an hour, and whether these are all."""
    listings = Listings(asked.rooms.reader)
    after, until = await listings.bounds(asked.tenant, since_us, since_us + HOUR_US)
    start = max(after, until - RECEIPTS_COUNTED)
    counts = await listings.counts(asked.tenant, start, until) if until > start else []
    found: Counter[str] = Counter()
    for one in counts:
        found[one.decision or "deny"] += one.calls
    return found, start == after and len(counts) < GROUPS_MAX


def _rows(tallies: list[Tally]) -> int:
    return sum(one.rows for one in tallies)


def _is_high(one: Tally) -> bool:
    return SEVERITIES.get(one.severity, Severity.INFO) >= Severity.HIGH


ROUTES: Final = (
    Route(
        "get_soc_summary", "GET", "/v1/soc/summary",
        "Alerts, incidents, and decisions of today and of the last 24 hours, counted",
        READERS, get_soc_summary, SummaryShape, time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
