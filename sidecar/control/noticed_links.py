"""Where people look at what a sink is told of: the page of its incident, or the list it stands in.

Knows: the console's addresses; that nothing of it lies in the store, for where people reach the
console may change.
Must not know: sinks, how they are reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

if TYPE_CHECKING:
    from sidecar.soc.delivering import Addition
    from storage.watch_rows import DeliveryRow

INCIDENT: Final = "/console/incidents/"
ALERTS: Final = "/console/alerts"
CONTAINMENTS: Final = "/console/containments"


def linked(addition: Addition, url: str) -> Addition:
    """What is added anyway, and where people look; `url` is the base of links, "" where nobody
    answers."""

    async def both(row: DeliveryRow) -> Mapping[str, Any]:
        more = await addition(row)
        page = page_of(row) if url else ""
        return {**more, "console_url": f"{url}{page}"} if page else more

    return both


def page_of(row: DeliveryRow) -> str:
    """The page of an alert, an incident or a containment; "" of anything else."""
    member = row.kind.partition(".")[0]
    try:
        body = orjson.loads(row.body)[member]
        incident = body["id"] if member == "incident" else body.get("incident_id")
        agent = body.get("agent")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    if member not in ("alert", "incident", "containment"):
        return ""
    if incident:
        return INCIDENT + quote(str(incident), safe="")
    if member == "containment":
        return CONTAINMENTS
    return f"{ALERTS}?agent_id={quote(str(agent), safe='')}" if agent else ALERTS
