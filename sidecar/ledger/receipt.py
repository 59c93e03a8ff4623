"""The receipt body, version 1: its keys, its canonical bytes, its hash.

Knows: which keys a body has (exactly these, null when absent), what each may hold, and how a row
of the store and a body become each other. Must not know: chains, stores, why something was
recorded.
"""

from __future__ import annotations

from hashlib import sha256

from sidecar.ledger.canonical import canonical_body
from storage.records import ReceiptRow

VERSION = 1

KINDS = frozenset({"intent", "refusal", "outcome", "approval", "control", "recovery"})

Body = dict[str, str | int | None]

#: The keys of a body, in canonical (sorted) order.
BODY_KEYS = (
    "action",
    "action_hash",
    "agent_id",
    "approval_id",
    "approver",
    "args_commitment",
    "call_id",
    "decision",
    "event_id",
    "http_status",
    "kind",
    "mode",
    "outcome",
    "policy_revision",
    "prev_receipt_hash",
    "request_sha256",
    "resource",
    "rule_hash",
    "rule_id",
    "run_id",
    "seq",
    "source_trust",
    "tenant_id",
    "tool",
    "trace_id",
    "ts_us",
    "upstream",
    "user_id",
    "v",
)
#: Keys that hold integers; every other one holds a string or null.
INTEGER_KEYS = frozenset({"v", "seq", "ts_us", "http_status"})
#: Keys that are never null.
REQUIRED_KEYS = frozenset(
    {"v", "kind", "tenant_id", "seq", "event_id", "ts_us", "prev_receipt_hash"}
)

_FIELDS = ReceiptRow._fields[:-1]
_COLUMN_KINDS = tuple(
    (name, int if name in INTEGER_KEYS else str, name in REQUIRED_KEYS) for name in _FIELDS
)


def blank_receipt(
    tenant_id: str,
    kind: str,
    *,
    event_id: str,
    call_id: str | None,
    ts_us: int,
    agent_id: str | None = None,
    outcome: str | None = None,
    http_status: int | None = None,
) -> ReceiptRow:
    """A draft in which everything not given here is null."""
    return ReceiptRow(
        tenant_id, 0, kind, event_id, call_id, ts_us, agent_id,
        *(None,) * 18, outcome, http_status, "",
    )  # fmt: skip


def body_of(row: ReceiptRow, prev_receipt_hash: str) -> Body:
    """The body a stored row stands for, given the hash of the row before it."""
    body: Body = dict(zip(_FIELDS, row, strict=False))
    body["v"] = VERSION
    body["prev_receipt_hash"] = prev_receipt_hash
    return body


def receipt_hash(body: Body) -> str:
    """Lower-case hex SHA-256 of the canonical bytes; raises NotCanonical."""
    return sha256(canonical_body(body)).hexdigest()


def draft_fault(draft: ReceiptRow) -> str | None:
    """What keeps a draft from being a receipt by the types of its values; None if nothing does."""
    for (name, kind, is_required), value in zip(_COLUMN_KINDS, draft, strict=False):
        if value is None:
            if is_required:
                return f"{name} is missing"
        elif not isinstance(value, kind) or isinstance(value, bool):
            return f"{name} is {type(value).__name__}, not {kind.__name__}"
    return None
