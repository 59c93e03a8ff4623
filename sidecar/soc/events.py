"""What a recorded receipt is to detections: one event, or nothing worth watching.

Knows: which receipts tell of decisions, outcomes, approvals and tool definitions, where each says
what happened, and that what carries the protocol itself (MCP's initialize, ping, notifications)
is no call of a tool. A receipt without facts, and one refused before any rule was asked, is an
event all the same.
Must not know: detections, stores, clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sidecar.ledger.pin_entries import ACCEPTED, DRIFTED, FORGOTTEN, PINNED, RETURNED
from sidecar.ledger.recorded_call import NotReplayable, RecordedCall, recorded_call
from sidecar.soc.model import Event, EventKind, Evidence
from storage.records import CallFactsRow, ReceiptRow, RecordedEvent

PROTOCOL: Final = "protocol"
_APPROVAL: Final = "approval."
_TOOLS: Final = "tools."
#: What can happen to an approval, as `code` of such an event.
APPROVAL_CODES: Final = ("ask", "approve", "reject", "expire", "supersede", "withdraw", "link")
#: What can happen to the definition of a tool, as `code` of such an event.
DEFINITION_CODES: Final = (DRIFTED, RETURNED, ACCEPTED, PINNED, FORGOTTEN)
#: Refusals that no receipt can tell of, for the store could not take one: `code` of store events.
STORE_CODES: Final = ("store_unavailable", "queue_full", "store_fenced", "store_moved")
#: What can be wrong with a chain: a receipt or a link that does not hold, a head that is behind
#: what was seen of it, a signed checkpoint that does not fit. `code` of chain events.
CHAIN_CODES: Final = ("receipt_broken", "rolled_back", "checkpoint_mismatch")


class _Call:
    """The call of a decision, worked out once, when somebody asks."""

    __slots__ = ("_beside", "_known", "_receipt")

    def __init__(self, receipt: ReceiptRow, beside: CallFactsRow | None) -> None:
        self._receipt: ReceiptRow | None = receipt
        self._beside = beside
        self._known: RecordedCall | None = None

    def __call__(self) -> RecordedCall | None:
        receipt = self._receipt
        if receipt is not None:
            self._receipt = None
            try:
                self._known = recorded_call(receipt, self._beside)
            except NotReplayable:
                self._known = None
            self._beside = None
        return self._known


def event_of(recorded: RecordedEvent) -> Event | None:
    """The event of a receipt; None of one that detections do not watch."""
    receipt = recorded.receipt
    read = _BY_KIND.get(receipt.kind)
    return read(receipt, recorded.facts) if read is not None else None


def _evidence(receipt: ReceiptRow) -> Evidence:
    return Evidence(receipt.seq, receipt.receipt_hash, receipt.call_id or "", receipt.ts_us)


def _intent(receipt: ReceiptRow, beside: CallFactsRow | None) -> Event | None:
    code = _said(beside.facts if beside is not None else None).get("code", "")
    if code == PROTOCOL:
        return None
    return _decision(receipt, beside, str(code))


def _refusal(receipt: ReceiptRow, beside: CallFactsRow | None) -> Event:
    return _decision(receipt, beside, receipt.outcome or "")


def _decision(receipt: ReceiptRow, beside: CallFactsRow | None, code: str) -> Event:
    return Event(
        EventKind.DECISION,
        receipt.tenant_id,
        _evidence(receipt),
        receipt.agent_id or "",
        receipt.run_id or "",
        receipt.upstream or "",
        receipt.tool or "",
        receipt.decision or "",
        code,
        receipt.mode or "",
        receipt.rule_id or "",
        receipt.http_status or 0,
        _Call(receipt, beside),
    )


def _outcome(receipt: ReceiptRow, _beside: CallFactsRow | None) -> Event:
    return Event(
        EventKind.OUTCOME,
        receipt.tenant_id,
        _evidence(receipt),
        receipt.agent_id or "",
        code=receipt.outcome or "",
        http_status=receipt.http_status or 0,
    )


def _approval(receipt: ReceiptRow, _beside: CallFactsRow | None) -> Event:
    return Event(
        EventKind.APPROVAL,
        receipt.tenant_id,
        _evidence(receipt),
        receipt.agent_id or "",
        upstream=receipt.upstream or "",
        tool=receipt.tool or "",
        code=(receipt.action or "").removeprefix(_APPROVAL),
    )


def _control(receipt: ReceiptRow, beside: CallFactsRow | None) -> Event | None:
    """Of what is changed by hand or by the sidecar only the definitions of tools are watched."""
    action = receipt.action or ""
    code = action.removeprefix(_TOOLS)
    if not action.startswith(_TOOLS) or code not in DEFINITION_CODES:
        return None
    upstream = receipt.upstream or ""
    return Event(
        EventKind.DEFINITION,
        receipt.tenant_id,
        _evidence(receipt),
        receipt.agent_id or "",
        upstream=upstream,
        tool=receipt.tool or _tool_of(upstream, code, beside),
        code=code,
    )


def _tool_of(upstream: str, code: str, beside: CallFactsRow | None) -> str:
    """Of several tools in one receipt, the one to which it happened; `UPSTREAM/*` for several."""
    named = _said(beside.arguments if beside is not None else None).get(code)
    if isinstance(named, Mapping) and len(named) == 1:
        return f"{upstream}/{next(iter(named))}"
    return f"{upstream}/*"


def _said(text: str | None) -> Mapping[str, Any]:
    """What stands beside a receipt; nothing of what is erased, or is no object."""
    try:
        said = orjson.loads(text) if text is not None else None
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


_BY_KIND: Final = {
    "intent": _intent,
    "refusal": _refusal,
    "outcome": _outcome,
    "recovery": _outcome,
    "approval": _approval,
    "control": _control,
}
