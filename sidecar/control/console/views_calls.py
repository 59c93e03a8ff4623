"""The pages of calls: the list, which grows while it is looked at, and one call in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.route import Asked
from sidecar.control.console.page import listed, told


async def calls(asked: Asked) -> Mapping[str, Any]:
    """Calls, newest first, by the filters."""
    found = await listed("list_decisions", asked)
    return {"calls": found.items, "next": found.next}


async def call(asked: Asked) -> Mapping[str, Any]:
    """One call: what was decided and why, what the rules saw, its receipts, its run."""
    found = await told("get_decision", asked, call_id=asked.values["call_id"])
    return {
        "call": found,
        "explained": await _explained(asked),
        "approval": await _approval(asked, found),
        "run": await told("get_decision_run", asked, call_id=asked.values["call_id"]),
        "gathered": (found["facts"] or {}).get("run"),
    }


async def _explained(asked: Asked) -> Any:
    """Rule by rule, under the set in force; why that is not known of a call that cannot be judged
    again."""
    try:
        return await told("explain_decision", asked, call_id=asked.values["call_id"])
    except ApiProblem as problem:
        return {"unknown": problem.said.detail}


async def _approval(asked: Asked, found: Mapping[str, Any]) -> Any:
    if not found["approval_id"]:
        return None
    try:
        return await told("get_approval", asked, approval_id=found["approval_id"])
    except ApiProblem:
        return None  # of a store that was salvaged, say: the call tells of it all the same
