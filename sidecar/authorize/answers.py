"""What an authorize call is answered: the decision as an object, or the envelope of an error. Pure.

Knows: that every decision is answered 200, a deny too; that the same object is made of a decision
just taken and of its record, so that a repeated request is told the same; the advisory scores.
`Refused.detail` never comes out here.
Must not know: HTTP's framing, stores, how anything is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from sidecar.errors import Refused
from sidecar.ledger.action import CANON_VERSION
from sidecar.proxy.dialects.reply import CALL_ID_HEADER, WholeReply

#: Codes of refusals that are decisions on the call itself; all others are errors.
DECISIONS: Final = frozenset(
    {
        "policy_deny", "default_deny", "condition_error", "obligations_conflict",
        "idempotency_key_required", "unmet_obligation", "unredactable_request", "agent_frozen",
        "agent_quarantined", "contained", "tool_drifted", "list_changed", "invalid_argument",
        "ambiguous_argument", "arguments_unfit", "schema_unchecked", "approval_required",
        "approval_pending", "approval_rejected", "approval_expired", "approval_spent",
        "approval_outdated", "approval_withdrawn",
    }
)  # fmt: skip
#: What the envelope calls a status.
STATUS_REASONS: Final = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound",
    405: "MethodNotAllowed", 408: "Timeout", 409: "Conflict", 413: "PayloadTooLarge",
    415: "UnsupportedMediaType", 429: "TooManyRequests", 501: "NotImplemented",
    503: "ServiceUnavailable",
}  # fmt: skip
#: Clients try again at once, and three times, after a 5xx: who is only in a crowd is told to wait.
_WAITS: Final = frozenset({"queue_full", "bodies_full"})

_RISK_SCORES: Final = {"low": 10, "medium": 40, "high": 75, "critical": 95}
_TRUST_PENALTIES: Final = {
    "trusted_internal_signed": 0, "trusted_internal_unsigned": 5, "semi_trusted_customer": 15,
    "untrusted_external": 30, "malicious_suspected": 50, "unknown": 20,
}  # fmt: skip
_SCORE_MAX: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ReceiptSaid(NamedTuple):
    """The receipt of a decision, as the answer names it."""

    receipt_id: str
    receipt_hash: str
    prev_receipt_hash: str
    seq: int


class ApprovalSaid(NamedTuple):
    """An approval that was asked for, as the answer names it."""

    approval_id: str
    approvers: tuple[str, ...]
    expires_at_us: int


class Answered(NamedTuple):
    """A decision in the words of its record: `effect` is allow, deny or require_approval, and
    `rules` are those that matched; `action_hash` is that of the call as it was sent."""

    call_id: str
    effect: str
    code: str
    reason: str
    rules: tuple[str, ...]
    risk: str
    mutates: bool
    is_declared: bool
    is_mcp: bool
    trust: str
    action_hash: str
    redacted: tuple[str, ...] = ()
    is_dry_run: bool = False
    receipt: ReceiptSaid | None = None
    approval: ApprovalSaid | None = None


def decision_reply(said: Answered) -> WholeReply:
    """The decision, whatever it is, as a reply."""
    headers = [
        ("Content-Type", "application/json"),
        (CALL_ID_HEADER, said.call_id),
        ("Cache-Control", "no-store"),
    ]
    return WholeReply(200, headers, orjson.dumps(decision_object(said)))


def decision_object(said: Answered) -> dict[str, Any]:
    """The members of the answer, in the order in which they are documented."""
    is_critical = said.code in ("agent_frozen", "agent_quarantined") or not said.is_declared
    score = _SCORE_MAX if is_critical else _RISK_SCORES[said.risk]
    answer: dict[str, Any] = {
        "decision_id": dashed(said.call_id),
        "decision": said.effect,
        "risk_score": score,
        "risk_level": "critical" if is_critical else said.risk,
        "composite_risk_score": _composite(said, score),
        "reason": said.reason,
        "matched_policies": _matched(said),
        "approval": None if said.approval is None else _approval(said.approval, said.action_hash),
        "root_trust_level": said.trust,
        "dry_run": said.is_dry_run,
    }
    if said.redacted and said.effect != "deny":
        answer["redacted_fields"] = list(said.redacted)
        if said.effect == "allow":
            answer["decision"] = "redact"
    if said.receipt is not None:
        answer["receipt"] = {
            "receipt_id": said.receipt.receipt_id,
            "receipt_hash": said.receipt.receipt_hash,
            "prev_receipt_hash": said.receipt.prev_receipt_hash,
            "canon_version": CANON_VERSION,
            "seq": said.receipt.seq,
        }
    return answer


def error_reply(
    refused: Refused,
    call_id: str,
    details: Mapping[str, Any] | None = None,
    status: int | None = None,
) -> WholeReply:
    """The envelope of an error; `details.reason` is the stable code. `status` goes over the one
    that the code has."""
    status = status or (status_of(refused) if refused.code not in DECISIONS else refused.status)
    document = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": _sentence(refused),
        "reason": STATUS_REASONS[status],
        "details": {
            "reason": refused.code,
            "next_step": refused.kind.next_step,
            "call_id": call_id,
            **(details or {}),
        },
        "code": status,
    }
    headers = [
        ("Content-Type", "application/json"),
        (CALL_ID_HEADER, call_id),
        ("Cache-Control", "no-store"),
    ]
    retry_after_s = refused.retry_after_s
    if retry_after_s is None and status in (429, 503):
        retry_after_s = 1
    if retry_after_s is not None:
        headers.append(("Retry-After", str(retry_after_s)))
    if status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    return WholeReply(status, headers, orjson.dumps(document))


def status_of(refused: Refused) -> int:
    """The HTTP status of an answer to a call that does not go ahead."""
    if refused.code in DECISIONS:
        return 200
    if refused.code in _WAITS:
        return 429
    return refused.status if refused.status in STATUS_REASONS else 503


def dashed(call_id: str) -> str:
    """One of our ids in the usual form of a UUID."""
    return f"{call_id[:8]}-{call_id[8:12]}-{call_id[12:16]}-{call_id[16:20]}-{call_id[20:]}"


def timestamp(at_us: int) -> str:
    """A moment as RFC 3339 writes it, UTC, with microseconds."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def _sentence(refused: Refused) -> str:
    title = refused.kind.title
    return title if refused.reason == title else f"{title}: {refused.reason}"


def _matched(said: Answered) -> list[str]:
    """The rules that matched; where none did, the code, which says why. A tool nobody declared has
    the marker that clients know it by."""
    found = list(said.rules) or [said.code]
    if said.code.startswith("agent_"):
        found = [said.code]
    if not said.is_declared:
        found.append("mcp_unknown_tool")
    return found


def _approval(said: ApprovalSaid, action_hash: str) -> dict[str, Any]:
    return {
        "approval_id": dashed(said.approval_id),
        "status": "created",
        "approver_group": ",".join(said.approvers) or None,
        "expires_at": timestamp(said.expires_at_us),
        "action_hash": action_hash,
    }


def _composite(said: Answered, score: int) -> int:
    """An advisory sum; nothing is decided by it."""
    sum_ = score + (15 if said.mutates else 0) + _TRUST_PENALTIES[said.trust]
    return min(_SCORE_MAX, sum_ + (10 if said.is_mcp else 0))
