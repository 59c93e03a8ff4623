"""The run of a call until then: its calls in order, and which of them brought which label.

Knows: that nothing is judged here, and nothing told that is not on record: where facts were erased,
or the run is longer than one page looks, that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sidecar.control.api.decisions import READ_S, ROOM
from sidecar.control.api.parameters import in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.route import READERS, Asked, Route, Shape
from sidecar.control.api.times import time_text
from sidecar.kept_id import kept_id
from sidecar.ledger.run_labels import CallOnRecord, labelled
from sidecar.ledger.run_text import UnreadableRun, read_run
from storage.listings import TIME_MAX_US, CallOfAgent, Listings
from storage.records import ReceiptRow

#: Calls of the run that are looked at, the last ones.
CALLS_MAX: Final = 50
_JUDGED: Final = ("intent", "refusal")


class CallOfRunShape(Shape):
    """A call of the run. `labels_before` were gathered when it went on record; `labels_added` came
    with it, null where what is kept of it was erased. Of those before, `labels_appeared` are on
    record of no call here as added; `labels_unseen` came while it was under way: its rules were
    asked before."""

    call_id: str
    seq: int
    at: str
    ts_us: int
    decision: str | None
    mode: str | None
    went_ahead: bool
    tool: str | None
    labels_before: list[str]
    labels_added: list[str] | None
    labels_appeared: list[str]
    labels_unseen: list[str]


class RunOfCallShape(Shape):
    """A call's run up to the call, oldest first. `started_us` is null of a call that was judged as
    the first of its run, or of which nothing is kept. Unless `is_whole`, older calls are missing:
    a label that one of them brought while the first ones here were under way is told as theirs."""

    call_id: str
    agent_id: str | None
    started_at: str | None
    started_us: int | None
    is_whole: bool
    calls: list[CallOfRunShape]


async def get_decision_run(asked: Asked) -> dict[str, Any]:
    """The agent's calls from the beginning of the run up to this one."""
    reader, call_id = asked.rooms.reader, kept_id(str(asked.values["call_id"]))
    rows = await reader.receipts_of_call(asked.tenant, call_id)
    begun = next((row for row in rows if row.kind in _JUDGED), None)
    if begun is None:
        raise not_found("decision", call_id)
    beside = await reader.call_facts(asked.tenant, begun.seq)
    facts = _read(None if beside is None else beside.facts)
    started_us = await _started_us(asked, begun, facts)
    if started_us is None:
        calls, is_whole = [_itself(begun, None if beside is None else beside.facts)], False
    else:
        calls, is_whole = await _calls(asked, begun, facts, started_us)
    return {
        "call_id": call_id,
        "agent_id": begun.agent_id,
        "started_at": None if started_us is None else time_text(started_us),
        "started_us": started_us,
        "is_whole": is_whole,
        "calls": _told(calls, started_us, is_whole=is_whole),
    }


async def _started_us(
    asked: Asked, begun: ReceiptRow, facts: Mapping[str, Any] | None
) -> int | None:
    """When the run began: as the call met it; of one that met none, as the run is kept now, if it
    goes on. A call may meet none because the first one was under way together with it."""
    if facts is None or "run" not in facts or begun.agent_id is None:
        return None
    if facts["run"] is not None:
        return int(facts["run"]["started_us"])
    run_id = facts.get("of_run", "")
    key = f"{begun.agent_id}\n{run_id}" if run_id else begun.agent_id
    try:
        kept = read_run((await asked.rooms.reader.run_head(asked.tenant, key)).state)
    except UnreadableRun:
        return None
    started_us = None if kept is None else kept.state.started_us
    return started_us if started_us is not None and started_us <= begun.ts_us else None


async def _calls(
    asked: Asked, begun: ReceiptRow, facts: Mapping[str, Any] | None, started_us: int
) -> tuple[list[CallOfAgent], bool]:
    """Oldest first, and whether the run's beginning is among them."""
    listings = Listings(asked.rooms.reader)
    _, cut = await listings.ends(asked.tenant)
    after, _ = await listings.bounds(asked.tenant, started_us, TIME_MAX_US)
    found, looked = await listings.calls_of_agent(
        asked.tenant, str(begun.agent_id), after, begun.seq, CALLS_MAX
    )
    run_id = str((facts or {}).get("of_run", ""))
    same = [one for one in reversed(found) if _may_be_of(_read(one.facts), run_id)]
    return same, looked <= after and (cut.seq == 0 or started_us > cut.ts_us)


def _may_be_of(facts: Mapping[str, Any] | None, run_id: str) -> bool:
    """Whether a call is not on record as one of another run of the agent's."""
    return facts is None or "run" not in facts or facts.get("of_run", "") == run_id


def _told(
    calls: list[CallOfAgent], started_us: int | None, *, is_whole: bool
) -> list[dict[str, Any]]:
    on_record = [CallOnRecord(one.kind == "intent", _read(one.facts)) for one in calls]
    around = labelled(on_record, started_us, is_whole=is_whole)
    return [
        {
            "call_id": one.call_id,
            "seq": one.seq,
            "at": time_text(one.ts_us),
            "ts_us": one.ts_us,
            "decision": one.decision,
            "mode": one.mode,
            "went_ahead": one.kind == "intent",
            "tool": one.tool,
            "labels_before": sorted(labels.before),
            "labels_added": None if labels.added is None else sorted(labels.added),
            "labels_appeared": sorted(labels.appeared),
            "labels_unseen": sorted(labels.unseen),
        }
        for one, labels in zip(calls, around, strict=True)
    ]


def _itself(row: ReceiptRow, facts: str | None) -> CallOfAgent:
    return CallOfAgent(
        str(row.call_id), row.seq, row.ts_us, row.kind, row.decision, row.mode, row.tool, facts
    )


def _read(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else orjson.loads(text)


ROUTES: Final = (
    Route(
        "get_decision_run", "GET", "/v1/decisions/{call_id}/run",
        "The run of a call until then: which calls brought which labels",
        READERS, get_decision_run, RunOfCallShape, (in_path("call_id", "its id"),),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
