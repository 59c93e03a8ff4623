"""From what was decided, and from what was recorded of it, to the words of an answer. Pure.

Knows: that both ways lead to the same answer, as long as the facts beside the receipt are there.
Must not know: HTTP, stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sidecar.authorize.answers import Answered, ApprovalSaid, ReceiptSaid
from sidecar.authorize.case import Case
from sidecar.errors import REFUSALS, Refused
from sidecar.ledger.recorded_call import AUTHORIZE
from sidecar.model import Decision, Effect, Mode
from storage.records import CallFactsRow, ReceiptRow, Recorded

#: Codes by which a call waits for a yes.
WAITING: Final = frozenset({"approval_required", "approval_pending", "approval_outdated"})
_SERVER: Final = "mcp:"
_ERASED: Final = "What was said of it is not kept any more"


def answered(
    case: Case,
    decision: Decision | None,
    refused: Refused | None,
    recorded: Recorded | None,
    approval: ApprovalSaid | None = None,
) -> Answered:
    """The answer to a call just decided; without a decision `refused` says why not."""
    code, reason = "", ""
    if refused is not None:
        code, reason = refused.code, refused.reason
    elif decision is not None:
        code, reason = decision.code, decision.reason
    effect = Effect.ALLOW.value if refused is None else Effect.DENY.value
    if code in WAITING or (decision is not None and not decision.forward and refused is None):
        effect = Effect.REQUIRE_APPROVAL.value
    rules: tuple[str, ...] = ()
    if decision is not None:
        rules = tuple(one.rule_id for one in decision.matches if one.mode is not Mode.SHADOW)
    tool = case.shown.tool
    receipt = None
    if recorded is not None:
        receipt = ReceiptSaid(
            case.call_id, recorded.receipt_hash, recorded.prev_receipt_hash, recorded.seq
        )
    return Answered(
        call_id=case.call_id,
        effect=effect,
        code=code,
        reason=reason,
        rules=rules,
        risk=tool.risk.label,
        mutates=tool.mutates,
        is_declared=tool.declared,
        is_mcp=case.request.tool.startswith(_SERVER),
        trust=case.effective_trust.label,
        action_hash=case.mark.action_hash,
        redacted=case.redacted,
        is_dry_run=case.request.dry_run,
        receipt=receipt,
        approval=approval,
    )


def answered_before(
    receipt: ReceiptRow,
    prev_receipt_hash: str,
    beside: CallFactsRow | None,
    *,
    is_mcp: bool,
    approval: ApprovalSaid | None,
) -> Answered:
    """The answer that was given when this receipt was written; of one whose facts were erased, as
    much as the receipt itself tells."""
    facts: Mapping[str, Any] = orjson.loads(beside.facts) if beside is not None else {}
    code = str(facts.get("code") or receipt.outcome)
    effect = Effect.ALLOW.value
    if receipt.kind == "refusal":
        waits = receipt.outcome in WAITING
        effect = Effect.REQUIRE_APPROVAL.value if waits else Effect.DENY.value
        code = str(receipt.outcome)
    kind = REFUSALS.get(code)
    usual = _ERASED if beside is None or kind is None else kind.title
    rules = tuple(one[0] for one in facts.get("matches", ()) if one[2] != Mode.SHADOW.value)
    if beside is None and receipt.rule_id is not None:
        rules = (receipt.rule_id,)
    said = facts.get(AUTHORIZE, {})
    return Answered(
        call_id=str(receipt.call_id),
        effect=effect,
        code=code,
        reason=str(facts.get("reason", usual)),
        rules=rules,
        risk=str(facts.get("risk", "high")),
        mutates=bool(facts.get("mutates", True)),
        is_declared=bool(facts.get("declared", True)),
        is_mcp=is_mcp,
        trust=str(receipt.source_trust),
        action_hash=str(receipt.action_hash),
        redacted=tuple(said.get("redacted", ())),
        receipt=ReceiptSaid(
            str(receipt.call_id), receipt.receipt_hash, prev_receipt_hash, receipt.seq
        ),
        approval=approval,
    )
