"""What a decision asks beside its effect, in words and as data: approvals, limits, obligations.

Knows: how each is said in few words. Must not know: how any of it is carried out.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from sidecar.model import Decision
from sidecar.policy.quantities import duration_text, size_text
from sidecar.policy.terms import ApprovalTerms, Charge, Obligations, Redaction


def terms_lines(decision: Decision) -> Iterator[str]:
    """One line each for who must approve, what limits count, what is done with the call."""
    if decision.approvals:
        yield f"asks  {'; '.join(_approval(one) for one in decision.approvals)}"
    if decision.charges:
        yield f"takes {'; '.join(_charge(one) for one in decision.charges)}"
    if decision.obligations is not None:
        does = list(_obligations(decision.obligations, may_go_ahead=decision.effect != "deny"))
        if does:
            yield f"does  {'; '.join(does)}"


def terms_data(decision: Decision) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "approvals": [
            {
                "rule": one.rule_id,
                "approvers": list(one.approvers),
                "quorum": one.quorum,
                "expires": _duration(one.expires_us),
                "hold": _duration(one.hold_us),
            }
            for one in decision.approvals
        ],
        "limits": [
            {
                "rule": one.rule_id,
                "amount": _amount(one.amount, one.scale),
                "max": _amount(one.max, one.scale),
                "window": duration_text(one.window_us),
                "sum": one.is_sum,
                "shared": one.is_shared or one.is_sum,
            }
            for one in decision.charges
        ],
        "obligations": _plain(decision.obligations or Obligations()),
    }


def _approval(terms: ApprovalTerms) -> str:
    several = f"{terms.quorum} of " if terms.quorum > 1 else ""
    who = " or ".join(terms.approvers) or f"any approver{'s' if several else ''}"
    within = f", within {duration_text(terms.expires_us)}" if terms.expires_us else ""
    return f"{several}{who} for {terms.rule_id}{within}"


def _charge(one: Charge) -> str:
    amount, most = _amount(one.amount, one.scale), _amount(one.max, one.scale)
    what = "" if one.is_sum else " calls"
    return f"{amount} of {most}{what} in {duration_text(one.window_us)} for {one.rule_id}"


def _obligations(wanted: Obligations, *, may_go_ahead: bool) -> Iterator[str]:
    if wanted.request:
        where = "in the request" if may_go_ahead else "in the record"
        yield f"masks {_redaction(wanted.request)} {where}"
    if wanted.response:
        yield f"masks {_redaction(wanted.response)} in the answer"
    if wanted.max_response_bytes is not None:
        yield f"takes answers of {size_text(wanted.max_response_bytes)} at most"
    for name, value in wanted.set_headers:
        yield f"sets the header {name} to {value}"
    for name in wanted.remove_headers:
        yield f"removes the header {name}"
    if wanted.needs_idempotency_key:
        yield "wants an Idempotency-Key"
    if wanted.add_labels:
        yield f"adds the labels {', '.join(wanted.add_labels)} to the run"


def _redaction(wanted: Redaction) -> str:
    return ", ".join((*(".".join(path) for path in wanted.paths), *wanted.detectors))


def _plain(wanted: Obligations) -> dict[str, Any]:
    def items(of: Redaction) -> list[str]:
        return [*(".".join(path) for path in of.paths), *of.detectors]

    return {
        "redact": {"request": items(wanted.request), "response": items(wanted.response)},
        "max_response_bytes": wanted.max_response_bytes,
        "headers": {"set": dict(wanted.set_headers), "remove": list(wanted.remove_headers)},
        "idempotency_key": "required" if wanted.needs_idempotency_key else None,
        "add_labels": list(wanted.add_labels),
    }


def _duration(microseconds: int | None) -> str | None:
    return None if microseconds is None else duration_text(microseconds)


def _amount(amount: int, scale: int) -> int | float:
    whole, rest = divmod(amount, scale)
    return whole if not rest else float(Decimal(amount) / scale)
