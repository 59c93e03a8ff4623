"""A call of a tool that is not HTTP needs a person's yes: what is asked for, and what stands of it.

Knows: that a yes is bound to one agent of one tenant, the user he names, and the canonical action
with all its five members; that the same action asked again joins the question that is open; that
nobody is held here: who asked is told at once that his call waits, and polls.
Must not know: how approvals are kept or decided, how a call is judged or recorded, HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

from sidecar.approvals.asked import Asked, asked
from sidecar.approvals.service import Approvals, Asking
from sidecar.approvals.states import read_terms, wanted
from sidecar.authorize.answers import ApprovalSaid
from sidecar.authorize.case import Case
from sidecar.authorize.records import WAITING
from sidecar.config.model import Approvals as Settings
from sidecar.errors import Refused
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.recorded_call import AUTHORIZE
from sidecar.model import Decision
from sidecar.policy.index import PolicySet
from sidecar.policy.terms import Obligations
from storage.protocol import ApprovalReader
from storage.standing import ApprovalRow

#: No rule lets a yes live longer.
LIFE_MAX_US: Final = 30 * 86_400_000_000


class Questions:
    """`Asks` over the approvals of this sidecar."""

    def __init__(
        self,
        approvals: Approvals,
        settings: Settings,
        reader: ApprovalReader,
        *,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        keeps_arguments: bool,
    ) -> None:
        """`redact` masks what must not be stored; `keeps_arguments` is false where only digests
        may be."""
        self._approvals = approvals
        self._settings = settings
        self._reader = reader
        self._redact = redact
        self._keeps_arguments = keeps_arguments

    async def ask(
        self, case: Case, policy_set: PolicySet, decision: Decision
    ) -> tuple[Decision, ApprovalSaid]:
        """See `Asks`."""
        try:
            row = await self._approvals.hold(self._asking(case, decision))
        except Refused as refused:
            approval_id = refused.more.get("approval")
            refused.decision = replace(decision, approval_id=approval_id)
            if refused.code not in WAITING or approval_id is None:
                raise
            found = await self._reader.approval(case.principal.tenant, approval_id)
            if found is None:
                raise
            row = found
        return replace(decision, approval_id=row.approval_id), said_of(row)

    async def said(self, tenant: str, approval_id: str) -> ApprovalSaid | None:
        """See `Asks`."""
        row = await self._reader.approval(tenant, approval_id)
        return None if row is None else said_of(row)

    def _asking(self, case: Case, decision: Decision) -> Asking:
        principal, call = case.principal, case.shown
        lives = [one.expires_us for one in decision.approvals if one.expires_us is not None]
        return Asking(
            tenant=principal.tenant,
            agent=principal.agent,
            user=case.request.user_id or "",
            call_id=case.call_id,
            tool=call.tool.name,
            action_sha256=bound_digest(case, decision.obligations),
            asked=self._asked(case, decision),
            terms=wanted(decision),
            life_us=min([LIFE_MAX_US, *(lives or [int(self._settings.expires_s * 1e6)])]),
            until_ns=0,
            tell=_nobody_waits,
        )

    def _asked(self, case: Case, decision: Decision) -> Asked:
        """What the approver reads; the resource stands where a path would."""
        resource = (case.shown.beside or {}).get("resource")
        request = case.request
        return asked(
            case.recorded_principal,
            case.shown,
            decision,
            arguments=self._redact(case.shown.args) if self._keeps_arguments else None,
            path=str(resource or "") if self._keeps_arguments else "",
            bind_headers=(),
            run=case.run,
            action_sha256=case.mark.action_hash,
            as_said={"tool": request.tool, "mutates_state": request.mutates_state},
        )


def said_of(row: ApprovalRow) -> ApprovalSaid:
    """An approval as answers name it."""
    approvers = {name for term in read_terms(row.terms).terms for name in term.approvers}
    return ApprovalSaid(row.approval_id, tuple(sorted(approvers)), row.expires_at_us)


def bound_digest(case: Case, obligations: Obligations | None) -> str:
    """What a yes is bound to, in hex."""
    redaction = obligations.request if obligations is not None else None
    return sha256(
        canonical_arguments(
            {
                "v": 1,
                "dialect": AUTHORIZE,
                "tenant": case.principal.tenant,
                "agent": case.principal.agent,
                "user": case.request.user_id,
                "tool": case.call.tool.name,
                "action_hash": case.mark.action_hash,
                "redact": [[list(path) for path in redaction.paths], list(redaction.detectors)]
                if redaction
                else None,
            }
        )
    ).hexdigest()


async def _nobody_waits(_row: ApprovalRow) -> None:
    """Nobody is held, so nobody is told."""
