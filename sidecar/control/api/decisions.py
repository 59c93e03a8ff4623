"""Decisions: every call that was judged or refused, with how it ended.

Knows: that a decision is an intent or a refusal on the chain, and has the id of its call; that a
page looks at a stretch of the chain, so that a filter which fits rarely gives empty pages with a
cursor to go on, never a slow one.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from sidecar.control.api.parameters import SINCE, UNTIL, Choice, Parameter, Text, in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.receipts import ReceiptShape, with_previous
from sidecar.control.api.route import READERS, Asked, Listed, Route, Shape
from sidecar.control.api.times import time_text
from sidecar.kept_id import kept_id
from storage.listings import TIME_MAX_US, CallFilter, ListedCall, Listings
from storage.records import ReceiptRow

ROOM: Final = "decisions"
READ_S: Final = 10.0


class EndingShape(Shape):
    """How a call that went ahead ended."""

    outcome: str | None
    http_status: int | None
    seq: int
    ts_us: int


class DecisionShape(Shape):
    """A call and what was decided. `decision_id` is the call's id, which its receipts and the
    header Aegis-Call-Id have too. `code` is why it was refused; `ending` is null while it is under
    way and of a call that was refused."""

    decision_id: str
    call_id: str
    seq: int
    at: str
    ts_us: int
    decision: str | None
    went_ahead: bool
    mode: str | None
    code: str | None
    http_status: int | None
    agent_id: str | None
    user_id: str | None
    run_id: str | None
    trace_id: str | None
    upstream: str | None
    tool: str | None
    action: str | None
    source_trust: str | None
    rule_id: str | None
    rule_hash: str | None
    policy_revision: str | None
    approval_id: str | None
    approver: str | None
    ending: EndingShape | None


class DecisionDetail(DecisionShape):
    """A decision with what stands beside it and can be erased: the arguments, masked, and what
    the rules saw; null where nothing is kept. `receipts` are those of the call, oldest first."""

    arguments: Any
    facts: dict[str, Any] | None
    receipts: list[ReceiptShape]


def told(one: ListedCall) -> dict[str, Any]:
    """A decision as its shape."""
    row, ending = one.receipt, one.ending
    is_refusal = row.kind == "refusal"
    return {
        "decision_id": row.call_id,
        "call_id": row.call_id,
        "seq": row.seq,
        "at": time_text(row.ts_us),
        "ts_us": row.ts_us,
        "went_ahead": not is_refusal,
        "code": row.outcome if is_refusal else None,
        "http_status": row.http_status if is_refusal else None,
        **{name: getattr(row, name) for name in _AS_THEY_ARE},
        "ending": None if ending is None else {
            "outcome": ending.outcome, "http_status": ending.http_status,
            "seq": ending.seq, "ts_us": ending.ts_us,
        },
    }  # fmt: skip


_AS_THEY_ARE: Final = (
    "decision", "mode", "agent_id", "user_id", "run_id", "trace_id", "upstream", "tool", "action",
    "source_trust", "rule_id", "rule_hash", "policy_revision", "approval_id", "approver",
)  # fmt: skip


async def list_decisions(asked: Asked) -> Listed:
    """Newest first. Where the page before left off is a seq, and so is where the list ends."""
    listings, values = Listings(asked.rooms.reader), asked.values
    wanted = CallFilter(
        agent=values["agent_id"], tool=values["tool"], upstream=values["upstream"],
        decision=values["decision"], rule=values["rule"], code=values["code"],
        run=values["run_id"], trace=values["trace_id"], approval=values["approval_id"],
    )  # fmt: skip
    if asked.position is None:
        since_us = values["from"] or 0
        until_us = TIME_MAX_US if values["to"] is None else values["to"]
        after, until = await listings.bounds(asked.tenant, since_us, until_us)
    else:
        after, until = int(asked.position[0]), int(asked.position[1])
    offset = values["offset"] if asked.position is None else 0
    found, looked = await listings.calls(asked.tenant, wanted, after, until, offset + asked.limit)
    return Listed(
        [told(one) for one in found[offset:]], (after, looked) if looked > after else None
    )


async def get_decision(asked: Asked) -> dict[str, Any]:
    """One call, by its id."""
    reader, call_id = asked.rooms.reader, kept_id(str(asked.values["call_id"]))
    rows = await reader.receipts_of_call(asked.tenant, call_id)
    begun = next((row for row in rows if row.kind in ("intent", "refusal")), None)
    if begun is None:
        raise not_found("decision", call_id)
    beside = await reader.call_facts(asked.tenant, begun.seq)
    arguments = beside.arguments if beside is not None else None
    return {
        **told(ListedCall(begun, _ending_of(rows))),
        "arguments": orjson.loads(arguments) if arguments is not None else None,
        "facts": orjson.loads(beside.facts) if beside is not None else None,
        "receipts": [await with_previous(reader, row) for row in rows],
    }


def _ending_of(rows: list[ReceiptRow]) -> Any:
    from storage.listings import Ending

    for row in rows:
        if row.kind in ("outcome", "recovery"):
            return Ending(row.seq, row.ts_us, row.outcome, row.http_status)
    return None


_DECISIONS: Final = ("allow", "deny", "require_approval")

ROUTES: Final = (
    Route(
        "list_decisions", "GET", "/v1/decisions", "Calls and what was decided, newest first",
        READERS, list_decisions, list[DecisionShape],
        (
            Parameter("agent_id", Text(), "of this agent", ""),
            Parameter("tool", Text(), "to this tool, `<upstream>/<operation>`", ""),
            Parameter("upstream", Text(), "to this upstream", ""),
            Parameter("decision", Choice(_DECISIONS), "decided so", ""),
            Parameter("rule", Text(), "decided by this rule, `<policy>/<id>`", ""),
            Parameter("code", Text(), "refused with this code", ""),
            Parameter("run_id", Text(), "sent with this run id", ""),
            Parameter("trace_id", Text(), "sent with this trace id", ""),
            Parameter("approval_id", Text(), "by this approval", ""),
            SINCE, UNTIL,
        ),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_decision", "GET", "/v1/decisions/{call_id}",
        "One call: what was decided, what the rules saw, and its receipts",
        READERS, get_decision, DecisionDetail, (in_path("call_id", "its id"),),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
