"""The receipt body, version 1: its keys, its canonical bytes, its hash.

Knows: which keys a body has (exactly these, null when absent) and how a stored row becomes one.
With ASCII keys, strings, and integers up to 2^53 the same bytes come out of RFC 8785, of
sorted compact JSON, and of the canonical form older verifiers of such receipts use.
Must not know: chains, stores, why something was recorded.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson

from storage.records import ReceiptRow

VERSION = 1
INTEGER_MAX = 2**53

KINDS = frozenset({"intent", "refusal", "outcome", "approval", "control", "recovery"})

#: The keys of a body in canonical (sorted) order.
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


def body_of(row: ReceiptRow, prev_receipt_hash: str) -> dict[str, Any]:
    """The body a stored row stands for, given the hash of the row before it."""
    body = row._asdict()
    del body["receipt_hash"]
    body["v"] = VERSION
    body["prev_receipt_hash"] = prev_receipt_hash
    return body


def canonical_bytes(body: dict[str, Any]) -> bytes:
    """Sorted, compact UTF-8 JSON (RFC 8785 for what a body may hold).

    Raises TypeError for a string that is no Unicode text or an integer beyond ±2^53.
    """
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)


def receipt_hash(body: dict[str, Any]) -> str:
    """Lower-case hex SHA-256 of the canonical bytes."""
    return sha256(canonical_bytes(body)).hexdigest()
