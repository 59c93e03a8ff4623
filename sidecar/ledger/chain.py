"""Sealing: drafts become receipts, linked onto their tenants' heads. Pure.

Knows: sequence, link, hash and frontier. It runs in the writer's thread inside the batch's
transaction, while callers wait and hold the interpreter's lock, so it is written for speed: per
receipt one serialisation and two SHA-256, and the frontier as raw bytes until the batch's end.
Must not know: what a draft is about, where heads are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import orjson

from sidecar.ledger.merkle import append, frontier_from_hex, frontier_to_hex
from sidecar.ledger.receipt import KINDS, draft_fault
from storage.records import HeadRow, ReceiptRow, Sealed

_OPTIONS = orjson.OPT_STRICT_INTEGER
_PATTERNS_MAX = 4096

#: The patterns of value types that were found in order: there are few, and asking is cheap.
_sound_patterns: set[tuple[type, ...]] = set()
_new_row = tuple.__new__


class _Link:
    """One tenant's head while a batch is sealed; `fault` if nothing can be linked onto it."""

    __slots__ = ("epoch", "fault", "frontier", "hash", "seq", "ts_us")

    def __init__(self, head: HeadRow) -> None:
        self.seq = head.seq
        self.hash = head.receipt_hash
        self.ts_us = head.ts_us
        self.epoch = head.epoch
        self.frontier: list[bytes] = []
        self.fault: str | None = None
        try:
            self.frontier = frontier_from_hex(head.frontier, head.seq)
        except ValueError as error:
            self.fault = f"the head of tenant {head.tenant_id!r} is damaged: {error}"


def seal(heads: Mapping[str, HeadRow], drafts: Sequence[ReceiptRow]) -> Sealed:
    """Links the drafts, in order, and gives the new heads and one answer per draft.

    `heads` holds a head for every tenant among the drafts. A draft that cannot be a receipt gives
    the reason in its place, and the chain goes on as if it had not been there. Time never runs
    backwards in a chain: a receipt's `ts_us` is at least that of the one before.
    """
    links = {tenant_id: _Link(head) for tenant_id, head in heads.items()}
    rows = [_seal_one(links[draft[0]], draft) for draft in drafts]
    sealed = {
        tenant_id: HeadRow(
            tenant_id, link.seq, link.hash, link.ts_us, frontier_to_hex(link.frontier), link.epoch
        )
        if link.fault is None
        else heads[tenant_id]
        for tenant_id, link in links.items()
    }
    return Sealed(sealed, rows)


def _seal_one(link: _Link, draft: ReceiptRow) -> ReceiptRow | str:
    fault = link.fault
    if fault is None and tuple(map(type, draft)) not in _sound_patterns:
        fault = _pattern_fault(draft)
    if fault is None and draft[2] not in KINDS:
        fault = f"{draft[2]!r} is no kind of receipt"
    if fault is not None:
        return fault
    (
        tenant_id, _, kind, event_id, call_id, ts_us, agent_id, user_id, run_id, trace_id,
        upstream, tool, action, resource, source_trust, decision, mode, rule_id, rule_hash,
        policy_revision, approval_id, approver, action_hash, request_sha256, args_commitment,
        outcome, http_status, _,
    ) = draft  # fmt: skip
    seq = link.seq + 1
    if ts_us < link.ts_us:
        ts_us = link.ts_us
    # Spelled out in canonical order, so that nothing needs sorting.
    body = {
        "action": action,
        "action_hash": action_hash,
        "agent_id": agent_id,
        "approval_id": approval_id,
        "approver": approver,
        "args_commitment": args_commitment,
        "call_id": call_id,
        "decision": decision,
        "event_id": event_id,
        "http_status": http_status,
        "kind": kind,
        "mode": mode,
        "outcome": outcome,
        "policy_revision": policy_revision,
        "prev_receipt_hash": link.hash,
        "request_sha256": request_sha256,
        "resource": resource,
        "rule_hash": rule_hash,
        "rule_id": rule_id,
        "run_id": run_id,
        "seq": seq,
        "source_trust": source_trust,
        "tenant_id": tenant_id,
        "tool": tool,
        "trace_id": trace_id,
        "ts_us": ts_us,
        "upstream": upstream,
        "user_id": user_id,
        "v": 1,
    }
    try:
        canonical = orjson.dumps(body, option=_OPTIONS)
    except TypeError as error:
        return f"no canonical form: {error}"
    digest = sha256(canonical).hexdigest()
    append(link.frontier, link.seq, sha256(b"\x00" + canonical).digest())
    link.seq, link.hash, link.ts_us = seq, digest, ts_us
    return _new_row(
        ReceiptRow,
        (
            tenant_id, seq, kind, event_id, call_id, ts_us, agent_id, user_id, run_id, trace_id,
            upstream, tool, action, resource, source_trust, decision, mode, rule_id, rule_hash,
            policy_revision, approval_id, approver, action_hash, request_sha256, args_commitment,
            outcome, http_status, digest,
        ),
    )  # fmt: skip


def _pattern_fault(draft: ReceiptRow) -> str | None:
    """What is wrong with the kinds of a draft's values; remembers the pattern if nothing is."""
    fault = draft_fault(draft)
    if fault is None and len(_sound_patterns) < _PATTERNS_MAX:
        _sound_patterns.add(tuple(map(type, draft)))
    return fault
