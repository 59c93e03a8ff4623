"""From the nouns of a call to a draft receipt, and to the facts beside it. Pure.

Knows: what of a call stands in its receipt for ever, and what stands beside it in `call_facts`,
which can be erased without breaking the chain: the arguments (secrets masked), and what the rules
saw. Where only digests are kept, texts that can hold an argument (path, reason) are left out.
Header values, the query's values and the body are never kept.
Must not know: queues, clocks, how rows are committed or hashed.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_plus

import orjson

from sidecar.errors import Refused
from sidecar.ledger.canonical import NotCanonical, canonical_arguments
from sidecar.ledger.commitment import OF_SALT, salt_beside, shown_salt
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.said_yes import APPROVED
from sidecar.model import Decision, Effect, Mode, Principal, RiskLevel, ToolCall, TrustLevel
from sidecar.policy.runs import RunState
from sidecar.policy.secret_names import MASK
from storage.records import CallFactsRow, ReceiptRow

_RISK = tuple(level.label for level in RiskLevel)
_TRUST = tuple(level.label for level in TrustLevel)
#: Plain texts, for binding and hashing; asking an enum for its `value` is two calls.
_EFFECT = {effect: effect.value for effect in Effect}
_MODE = {mode: mode.value for mode in Mode}
#: What stands in the place of a decision when a call was refused before it was judged.
_UNJUDGED: tuple[str, str, str | None, str | None, str | None] = (
    Effect.DENY.value,
    Mode.ENFORCE.value,
    None,
    None,
    None,
)
#: What stands beside a call and may hold what its arguments hold.
_TEXTS = frozenset({"resource"})
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_new_row = tuple.__new__


def call_draft(
    kind: str,
    principal: Principal,
    call: ToolCall,
    decision: Decision | None,
    refused: Refused | None,
    *,
    ts_us: int,
    nonce: bytes,
    arguments: Mapping[str, Any],
    keeps_arguments: bool,
    run: RunState | None = None,
) -> tuple[ReceiptRow, CallFactsRow]:
    """The draft of an intent, or of the refusal of a call that was read, and its facts.

    `arguments` are the call's, redacted; `run` is its run before it, if it was judged; `nonce` is
    random, NONCE_BYTES of it. Raises NotCanonical if they, or the facts, hold what JSON cannot say.
    """
    canonical = canonical_arguments(arguments)
    path = masked_path_of(call, arguments) if keeps_arguments else None
    facts = _facts(principal, call, decision, refused, path, run, nonce)
    salt = salt_beside(nonce, facts)
    tenant_id, tool = principal.tenant, call.tool
    effect, mode, rule_id, rule_hash, revision = _UNJUDGED
    approval_id, approver = None, None
    # No path, which may hold personal data: that stands among the facts.
    resource = None if keeps_arguments or not call.body else OF_SALT + shown_salt(salt)
    if decision is not None:
        effect, mode = _EFFECT[decision.effect], _MODE[decision.mode]
        rule_id, rule_hash = decision.rule_id, decision.rule_hash
        revision = decision.policy_revision
        approval_id, approver = decision.approval_id, decision.approver
    receipt = _new_row(
        ReceiptRow,
        (
            tenant_id,
            0,
            kind,
            call.call_id,
            call.call_id,
            ts_us,
            principal.agent,
            principal.user,
            call.run_id,
            call.trace_id,
            tool.upstream,
            tool.name,
            call.action,
            resource,
            _TRUST[principal.trust],
            effect,
            mode,
            rule_id,
            rule_hash,
            revision,
            approval_id,
            approver,
            None,  # action_hash
            *keyed_digests(salt, call.body, canonical),
            refused.code if refused else None,
            refused.status if refused else None,
            "",
        ),
    )
    kept = canonical.decode() if keeps_arguments else None
    return receipt, _new_row(CallFactsRow, (tenant_id, 0, salt.hex(), kept, facts.decode()))


def keyed_digests(key: bytes, first: bytes, second: bytes) -> tuple[str, str]:
    """HMAC-SHA256 of two messages under one key of at most 64 bytes, in hex (RFC 2104 section 2).

    Spelled out, because the key's two pads are made once and not four times.
    """
    padded = key.ljust(64, b"\0")
    inner, outer = padded.translate(_INNER_PAD), padded.translate(_OUTER_PAD)
    return (
        sha256(outer + sha256(inner + first).digest()).hexdigest(),
        sha256(outer + sha256(inner + second).digest()).hexdigest(),
    )


def unread_draft(
    principal: Principal,
    *,
    call_id: str,
    upstream: str,
    tool: str | None,
    action: str,
    refused: Refused,
    ts_us: int,
) -> ReceiptRow:
    """The refusal of a request that never became a call: there are no arguments to commit to."""
    return blank_receipt(
        principal.tenant,
        "refusal",
        event_id=call_id,
        call_id=call_id,
        ts_us=ts_us,
        agent_id=principal.agent,
        outcome=refused.code,
        http_status=refused.status,
    )._replace(
        user_id=principal.user,
        upstream=upstream,
        tool=tool,
        action=action,
        source_trust=principal.trust.label,
        decision=Effect.DENY.value,
        mode=Mode.ENFORCE.value,
    )


def masked_path_of(call: ToolCall, arguments: Mapping[str, Any]) -> str:
    """The path without what was masked of the arguments that stand in it."""
    path = call.http.path
    if arguments is not call.args:
        for name, text in call.in_path.items():
            if arguments.get(name) != call.args.get(name):
                path = path.replace(text, MASK)
    return path


def _facts(
    principal: Principal,
    call: ToolCall,
    decision: Decision | None,
    refused: Refused | None,
    path: str | None,
    run: RunState | None,
    nonce: bytes,
) -> bytes:
    http, tool = call.http, call.tool
    keeps_texts = path is not None
    facts: dict[str, Any] = {
        "method": http.method,
        "source_ip": http.source_ip,
        "declared": tool.declared,
        "mutates": tool.mutates,
        "risk": _RISK[tool.risk],
        "labels": tool.labels,
        "returns": _TRUST[tool.returns],
        "team": principal.team,
        "environment": principal.environment,
        "agent_risk": _RISK[principal.risk],
    }
    if run is not None:  # of a run that begins with this call there is nothing to say
        facts["run"] = None if run.started_us is None else _run(run)
        if run.run_id:  # something trusted divides the agent's work
            facts["of_run"] = run.run_id
    facts |= _more_facts(call, path, nonce)
    if decision is not None:
        facts["code"] = decision.code
        if keeps_texts:
            facts["reason"] = decision.reason
        if decision.matches:
            facts["matches"] = [
                [match.rule_id, match.effect, match.mode, match.error] for match in decision.matches
            ]
        if decision.approved_sha256 is not None:  # held against what was asked, and said yes to
            facts[APPROVED] = decision.approved_sha256
        if decision.add_labels and decision.forward:  # beside the tool's own: what the run gathers
            facts["adds"] = decision.add_labels
        if decision.would_be is not None:  # last of all: lists of what differs look for it there
            facts["would_be"] = decision.would_be
    elif refused is not None:
        facts["code"] = refused.code
        if keeps_texts:
            facts["reason"] = refused.reason
    try:
        return orjson.dumps(facts)
    except TypeError as error:
        raise NotCanonical(str(error)) from error


def _more_facts(call: ToolCall, path: str | None, nonce: bytes) -> dict[str, Any]:
    """What not every call has; without a path no texts are to be kept."""
    facts: dict[str, Any] = {}
    if call.called is not None:
        facts["called"] = call.called
    if call.beside is not None:
        kept = call.beside.items()
        facts[call.dialect] = {k: v for k, v in kept if path is not None or k not in _TEXTS}
    if path is not None:
        facts["path"] = path
    if call.http.query:
        facts["query"] = query_names(call.http.query)
    if call.received is not None:  # beside `request_sha256`, which is of the body that was sent;
        # not under the salt, which is worked out of the facts
        facts["received_sha256"] = hmac.digest(nonce, call.received, "sha256").hex()
    return facts


def _run(run: RunState) -> dict[str, Any]:
    said: dict[str, Any] = {
        "trust": _TRUST[run.trust],
        "labels": sorted(run.labels),
        "calls": run.calls,
        "started_us": run.started_us,
    }
    if run.lowered_by:  # which call brought trust to what it is, and when
        said["lowered"] = [run.lowered_by, run.lowered_in, run.lowered_at_us]
    return said


def query_names(query: str) -> list[str]:
    """The names of a raw query's parameters, in order, each once."""
    names = (piece.partition("=")[0] for piece in query.split("&") if piece)
    return list(dict.fromkeys(unquote_plus(name, errors="replace") for name in names))
