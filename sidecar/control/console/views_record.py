"""The pages of the record: receipts and their chain, changes of state, the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sidecar.control.api.route import Asked
from sidecar.control.console.page import listed, route_of, told

WAITING_MAX: Final = 5
REFUSED_MAX: Final = 8
INCIDENTS_MAX: Final = 5


async def overview(asked: Asked) -> Mapping[str, Any]:
    """How it goes: decisions of the last day, what waits, what was refused, the write path."""
    refused = await told("list_decisions", asked, decision="deny", limit=REFUSED_MAX)
    waiting = await told("list_approvals", asked, state="open", limit=WAITING_MAX)
    return {
        "stats": await told("get_stats", asked),
        "status": await told("get_store", asked),
        "waiting": waiting.items,
        "refused": refused.items,
        "incidents": [
            one
            for one in (await told("list_incidents", asked, limit=INCIDENTS_MAX)).items
            if one["state"] != "closed"
        ],
    }


async def receipts(asked: Asked) -> Mapping[str, Any]:
    """The chain, newest first, and where it ends."""
    found = await listed("list_receipts", asked)
    checkpoints = await told("list_checkpoints", asked, limit=5)
    return {
        "receipts": found.items,
        "next": found.next,
        "head": await told("get_chain_head", asked),
        "checkpoints": checkpoints.items,
        "may_verify": bool(asked.person.roles & route_of("verify_range").roles),
    }


async def receipt(asked: Asked) -> Mapping[str, Any]:
    """One receipt, and what stands beside it."""
    seq = asked.values["seq"]
    return {
        "receipt": await told("get_receipt", asked, seq=seq),
        "beside": await told("get_receipt_facts", asked, seq=seq),
        "may_verify": bool(asked.person.roles & route_of("verify_receipt").roles),
    }


async def changes(asked: Asked) -> Mapping[str, Any]:
    """Who changed what, newest first."""
    found = await listed("list_audit_events", asked)
    return {"changes": found.items, "next": found.next}


async def store(asked: Asked) -> Mapping[str, Any]:
    """How the store does, how near its limit is, what to do about it."""
    return {"status": await told("get_store", asked)}
