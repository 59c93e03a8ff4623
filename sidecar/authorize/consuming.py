"""A yes is spent: by the agent it was given to, for the very action, once, and under today's rules.

Knows: that the call is judged again from its record, for a yes does not undo a rule that denies by
now; that what was masked in the record cannot be judged again, so that such a yes counts only while
the rules are the same; that a wrong hash spends nothing and is on record as what it may be.
Must not know: HTTP, how a rule is judged, how approvals are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import orjson

from sidecar.approvals.as_asked import is_as_asked
from sidecar.approvals.entries import spend_audit
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.approvals.service import Approvals, refusal_code
from sidecar.approvals.states import State, Term, approver_of, read_terms, spending, wanted
from sidecar.approvals.words import action_hash_of
from sidecar.authorize.call import call_of, declared_trust
from sidecar.authorize.case import Case
from sidecar.authorize.judging import AuthorizeJudging, Settled
from sidecar.authorize.line import ReadsRecords
from sidecar.authorize.request import AuthorizeRequest
from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.errors import Refused
from sidecar.ledger.claims import Spend
from sidecar.ledger.delegations import Mark, refused_by
from sidecar.ledger.recorded_call import AUTHORIZE, NotReplayable, recorded_call
from sidecar.model import Decision, Effect, Principal
from sidecar.policy.index import PolicySet
from storage.errors import StoreError
from storage.records import CallFactsRow, ReceiptRow
from storage.standing import ApprovalRow

#: Approvals that no call of this API can spend.
NOT_OURS: Final = "It is spent by the call itself, made again through the sidecar"

#: What an agent is told whose approval does not say any more what was asked.
ALTERED: Final = "What is kept of the question is not what was asked"


@dataclass(frozen=True, slots=True)
class Yes:
    """A yes as a call spends it: by whom, and on which terms it was given; `actor` spends it."""

    row: ApprovalRow
    terms: tuple[Term, ...]
    approvals: Approvals
    clock: Clock
    actor: str

    def granted(self, decision: Decision) -> Decision:
        """The decision with this yes; as it is where rules ask that this one was not given to."""
        if decision.effect is Effect.DENY:
            return decision
        if decision.effect is Effect.REQUIRE_APPROVAL and wanted(decision) != self.terms:
            return decision
        return replace(decision, approval_id=self.row.approval_id, approver=approver_of(self.row))

    def spend(self, call_id: str, decision: Decision) -> Spend:
        """What the record takes along."""
        spends, looked_at = spending(self.row.action_sha256, self.terms, call_id), self.row

        def step(row: ApprovalRow | None, at_us: int) -> ApprovalRow | str:
            # A yes given since it was looked at: by whom would stand in no record of this call.
            if row is not None and row.state == State.APPROVED and row.version != looked_at.version:
                return looked_at.state
            return spends(row, at_us)

        def without(why: str) -> Decision:
            return replace(decision, effect=Effect.DENY, code=refusal_code(why), approver=None)

        noted = self.approvals.changes.noting(step)
        audit = spend_audit(looked_at, actor=self.actor, call_id=call_id, at_us=self.clock.now_us())
        return Spend(looked_at.approval_id, self.clock.steady_us(), noted, without, audit)


class Asked(NamedTuple):
    """The call an approval is about, as it was recorded; `is_masked` if not all of it was."""

    request: AuthorizeRequest
    is_masked: bool
    revision: str


class Consuming:
    """One for a sidecar."""

    def __init__(
        self,
        *,
        config: Config,
        approvals: Approvals,
        reader: ReadsRecords,
        judging: AuthorizeJudging,
        clock: Clock,
    ) -> None:
        self._upstreams = config.upstreams
        self._approvals = approvals
        self._reader = reader
        self._judging = judging
        self._clock = clock

    async def find(self, principal: Principal, approval_id: str) -> ApprovalRow:
        """The agent's own approval. Raises Refused: unknown_approval, also for anybody else's;
        approval_outdated for one whose text, with the action's hash in it, was changed."""
        try:
            row = await self._approvals.deciding.found(principal.tenant, approval_id)
        except ApprovalRefused:
            raise Refused("unknown_approval") from None
        except StoreError as error:
            raise refused_by(error) from error
        if row.agent_id != principal.agent:
            raise Refused("unknown_approval")
        if not is_as_asked(row):
            raise Refused("approval_outdated", ALTERED)
        return row

    async def agent_of(self, tenant: str, approval_id: str) -> str:
        """Whose approval it is. Raises Refused("unknown_approval"), StoreError."""
        try:
            row = await self._approvals.deciding.found(tenant, approval_id)
        except ApprovalRefused:
            raise Refused("unknown_approval") from None
        return row.agent_id

    def require_ours(self, row: ApprovalRow, claimed: str | None) -> str:
        """The action's hash. Raises Refused: approval_not_consumable, approval_hash_mismatch."""
        hashed = action_hash_of(row)
        if hashed is None:
            raise Refused("approval_not_consumable", NOT_OURS)
        if claimed is not None and claimed != hashed:
            raise Refused("approval_hash_mismatch")
        return hashed

    async def case_of(
        self,
        principal: Principal,
        row: ApprovalRow,
        policy_set: PolicySet,
        source_ip: str,
        spent_for_by: str,
    ) -> Case:
        """The call to be judged again, under an id of its own; `spent_for_by` names the person who
        spends the yes for the agent, "" if it does itself. Raises Refused."""
        try:
            asked = await self._asked(row)
        except StoreError as error:
            raise refused_by(error) from error
        if asked.is_masked and asked.revision != policy_set.revision:
            raise Refused("approval_outdated")
        request, call_id = asked.request, self._clock.new_id()
        call = call_of(
            request, b"", policy_set.catalogue, self._upstreams,
            call_id=call_id, source_ip=source_ip,
        )  # fmt: skip
        run_id = principal.run
        upstream = self._upstreams.get(call.tool.upstream)
        if not run_id and upstream is not None and upstream.run == "trusted":
            run_id = request.run_id or ""
        trust = declared_trust(request)
        case = Case(
            call_id, principal, request, call, trust, run_id, Mark(action_hash_of(row) or ""), call
        )
        terms = read_terms(row.terms).terms
        actor = spent_for_by or f"agent:{principal.agent}"
        case.spent_for_by = spent_for_by
        case.permit = Yes(row, terms, self._approvals, self._clock, actor)
        case.is_masked = asked.is_masked
        return case

    async def spend(self, case: Case, policy_set: PolicySet) -> Settled:
        """Spends the yes, on record. Raises Refused."""
        settled = await self._judging.settle(case, policy_set)
        if settled.recorded is not None and isinstance(case.permit, Yes):
            self._approvals.spent(case.permit.row)
        return settled

    async def _asked(self, row: ApprovalRow) -> Asked:
        rows = await self._reader.receipts_of_call(row.tenant_id, row.call_id)
        receipt = next((one for one in rows if one.kind == "refusal"), None)
        beside = None
        if receipt is not None:
            beside = await self._reader.call_facts(row.tenant_id, receipt.seq)
        if receipt is None or beside is None:
            raise Refused("approval_outdated", "What was asked is not kept any more")
        return _read(receipt, beside)


def _read(receipt: ReceiptRow, beside: CallFactsRow) -> Asked:
    try:
        found = recorded_call(receipt, beside)
        said = orjson.loads(beside.facts)[AUTHORIZE]
        request = AuthorizeRequest(
            tool=said["tool"],
            action=str(receipt.action),
            resource=said.get("resource"),
            mutates_state=said["mutates_state"],
            parameters=dict(found.call.args),
            source_trust=said["source_trust"],
            contains_sensitive_data=said.get("contains_sensitive_data", False),
            agent_id=said["agent"],
            environment=said["environment"],
            user_id=receipt.user_id,
            user_role=said.get("user_role"),
            run_id=receipt.run_id,
            trace_id=receipt.trace_id,
            parent_run_id=said.get("parent_run_id"),
            root_trust_level=said.get("root_trust_level"),
        )
    except (NotReplayable, KeyError, TypeError, ValueError) as error:
        raise Refused("approval_outdated", detail=str(error)) from error
    return Asked(request, bool(found.hidden.arguments), found.revision)
