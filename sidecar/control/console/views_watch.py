"""The pages of what was noticed and what is contained: alerts, incidents, containments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.control.api.containments import ACTIONS
from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.route import Asked
from sidecar.control.console.page import listed, route_of, told
from sidecar.control.console.views_people import CONTAINED_MAX
from sidecar.identity.containment_subjects import STATES


async def incidents(asked: Asked) -> Mapping[str, Any]:
    """Alerts that belong together, newest first."""
    found = await listed("list_incidents", asked)
    return {"incidents": found.items, "next": found.next}


async def incident(asked: Asked) -> Mapping[str, Any]:
    """One incident as a timeline, what was done, and whether the chain bears it out."""
    incident_id = asked.values["incident_id"]
    found = await told("get_incident", asked, incident_id=incident_id)
    verdict = None
    if asked.values["verify"]:
        try:
            verdict = await told("verify_incident", asked, incident_id=incident_id)
        except ApiProblem as problem:
            verdict = {"unknown": problem.said.detail}
    return {
        "incident": found,
        "timeline": _timeline(found),
        "verdict": verdict,
        "may_act": bool(asked.person.roles & route_of("acknowledge_incident").roles),
        "contained": [
            one
            for one in (
                await told("list_containments", asked, state="active", limit=CONTAINED_MAX)
            ).items
            if one["incident_id"] == incident_id
        ],
    }


def _timeline(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The receipts alerts rest on, and what people did, oldest first; a receipt once."""
    seen: dict[int, dict[str, Any]] = {}
    for alert in found["alert_list"]:
        for one in (*alert["evidence"]["raised"], *alert["evidence"]["joined"]):
            at = seen.setdefault(one["seq"], {**one, "alerts": []})
            at["alerts"].append(alert["detection"])
    notes = [{**note, "seq": None} for note in found["notes"]]
    return sorted([*seen.values(), *notes], key=lambda one: (one["at_us"], one["seq"] or 0))


async def alerts(asked: Asked) -> Mapping[str, Any]:
    """What was noticed, newest first."""
    found = await listed("list_alerts", asked)
    return {
        "alerts": found.items,
        "next": found.next,
        "may_act": bool(asked.person.roles & route_of("close_alert").roles),
    }


async def containments(asked: Asked) -> Mapping[str, Any]:
    """What decisions are held to whatever the rules say, and what was; newest first."""
    found = await listed("list_containments", asked)
    return {
        "containments": found.items,
        "next": found.next,
        "actions": ACTIONS,
        "states": STATES,
        "may_act": bool(asked.person.roles & route_of("contain").roles),
    }
