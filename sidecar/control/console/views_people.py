"""The pages of what people decide: approvals, agents, tools."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from sidecar.control.api.route import Asked
from sidecar.control.console.fitting import fits
from sidecar.control.console.page import listed, route_of, told

#: Lines of a difference that are shown.
DIFFERENCE_LINES_MAX: Final = 400
#: Lines that are compared; of more, for which that takes very long, all stand as gone and new.
COMPARED_LINES_MAX: Final = 2_000
CALLS_MAX: Final = 20
#: Why somebody has no vote on what still waits.
_NO_VOTE: Final[Mapping[str, str]] = {
    "already_voted": "You have said yours; the rest is others' to say.",
    "own_approval": "It is asked for you: another approver has to decide.",
    "not_an_approver": "It is not yours to decide: the rules that ask want others.",
}
#: Active containments that are looked through for those of one agent, newest first.
CONTAINED_MAX: Final = 200


async def approvals(asked: Asked) -> Mapping[str, Any]:
    """What waits for a yes, oldest first; or all, newest first."""
    found = await listed("list_approvals", asked)
    shown = [
        {**one, "may_vote": one["vote_refused"] is None, "fits": fits(one["asked"])}
        for one in found.items
    ]
    return {"approvals": shown, "next": found.next, "now_us": asked.rooms.clock.now_us()}


async def approval(asked: Asked) -> Mapping[str, Any]:
    """One approval, with the exact arguments and what was said of it."""
    found = await told("get_approval", asked, approval_id=asked.values["approval_id"])
    refused = found["vote_refused"]
    has_role = bool(asked.person.roles & route_of("approve").roles)
    return {
        "approval": found,
        "may_vote": refused is None,
        "no_vote": _NO_VOTE.get(refused, "") if has_role else "Your roles do not allow a vote.",
        "may_withdraw": bool(asked.person.roles & route_of("withdraw").roles)
        and found["state"] in ("pending", "approved"),
        "now_us": asked.rooms.clock.now_us(),
    }


async def agents(asked: Asked) -> Mapping[str, Any]:
    """Agents, by name."""
    found = await listed("list_agents", asked)
    return {
        "agents": found.items,
        "next": found.next,
        "may_act": bool(asked.person.roles & route_of("freeze_agent").roles),
    }


async def agent(asked: Asked) -> Mapping[str, Any]:
    """One agent: its standing, what its run has gathered, its last calls."""
    name = asked.values["agent_id"]
    found = await told("get_agent", asked, agent_id=name)
    calls = await told("list_decisions", asked, agent_id=name, limit=CALLS_MAX)
    changes = await told("list_audit_events", asked, subject=f"agent:{name}", limit=CALLS_MAX)
    contained = await told("list_containments", asked, state="active", limit=CONTAINED_MAX)
    run = await told("get_run", asked, agent_id=name)
    return {
        "agent": found,
        "run": run,
        "brought": await _brought(asked, run, calls.items),
        "calls": calls.items,
        "changes": changes.items,
        "contained": [one for one in contained.items if one["agent"] == name],
        "more_contained": contained.next is not None,
        "moves": _moves(found["state"]),
        "may_act": bool(asked.person.roles & route_of("freeze_agent").roles),
    }


async def _brought(
    asked: Asked, run: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]
) -> Mapping[str, str]:
    """By label of the run, the call that added it, as far as the last call's page tells."""
    if not calls or not run["started_us"]:
        return {}
    last = await told("get_decision_run", asked, call_id=calls[0]["call_id"])
    if last["started_us"] != run["started_us"]:
        return {}
    return {label: one["call_id"] for one in last["calls"] for label in one["labels_added"] or ()}


def _moves(state: str) -> list[tuple[str, str, bool]]:
    """What can be done to an agent as it stands: route, word, and whether it is for good."""
    moves = {
        "active": ["freeze", "quarantine", "revoke", "delete"],
        "frozen": ["unfreeze", "quarantine", "revoke", "delete"],
        "quarantined": ["restore", "revoke", "delete"],
        "revoked": ["delete"],
    }
    return [(f"{verb}_agent", verb, verb in ("revoke", "delete")) for verb in moves.get(state, [])]


async def tools(asked: Asked) -> Mapping[str, Any]:
    """Tools by name, and what MCP servers say of theirs now that they did not when pinned."""
    found = await listed("list_tools", asked)
    drift = await told("get_drift", asked, upstream=asked.values["upstream"])
    return {
        "tools": found.items,
        "next": found.next,
        "drifted": await asked.rooms.backroom.do(asked.person, partial(_differing, drift["tools"])),
        "may_act": bool(asked.person.roles & route_of("accept_tools").roles),
        "upstreams": sorted(asked.rooms.config.upstreams),
    }


def _differing(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What an MCP server says is as long as it likes: not for the event loop's thread."""
    found = []
    for one in tools:
        lines = _difference(one)
        shown = lines[:DIFFERENCE_LINES_MAX]
        found.append({**one, "difference": shown, "more_lines": len(lines) - len(shown)})
    return found


def _difference(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Line by line: what is gone (`-`), what is new (`+`), what stands beside it."""
    before, after = (
        json.dumps(json.loads(one[name]), indent=2, sort_keys=True, ensure_ascii=False).split("\n")
        for name in ("pinned", "seen")
    )
    if len(before) + len(after) > COMPARED_LINES_MAX:
        while before and after and before[-1] == after[-1]:
            before, after = before[:-1], after[:-1]
        pairs = enumerate(zip(before, after, strict=False))
        shorter = min(len(before), len(after))
        same = next((at for at, (gone, new) in pairs if gone != new), shorter)
        return [*(("-", line) for line in before[same:]), *(("+", line) for line in after[same:])]
    return [
        (line[0], line[1:])
        for line in difflib.unified_diff(before, after, lineterm="", n=3)
        if not line.startswith(("---", "+++", "@@"))
    ]
