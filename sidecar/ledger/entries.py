"""What is handed to the write queue for a call: its intent, its refusal, how it ended.

Knows: who keeps an intent open, what goes with it, and what stands in its place if a limit has no
room for it. Draws times, ids and salts.
Must not know: the queue, what a receipt holds, how entries are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.ledger.canonical import NotCanonical
from sidecar.ledger.claims import Redraft
from sidecar.ledger.commitment import NONCE_BYTES, OF_SALT, salt_beside, shown_salt
from sidecar.ledger.drafts import call_draft, unread_draft
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.run_keeper import RunStake
from sidecar.model import Decision, Outcome, OutcomeKind, Principal, ToolCall
from sidecar.policy.runs import RunState
from storage.records import CallFactsRow, Entry, OpenIntentRow

_new_row = tuple.__new__
_KIND = {kind: kind.value for kind in OutcomeKind}

Redact = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Entries:
    """Makes entries of this node and boot; `redact` masks what must not be stored, and
    `keeps_arguments` is false where only digests may be."""

    def __init__(
        self,
        clock: Clock,
        *,
        node_id: str,
        boot_id: str,
        redact: Redact,
        keeps_arguments: bool,
    ) -> None:
        self._clock = clock
        self._node_id = node_id
        self._boot_id = boot_id
        self._redact = redact
        self._keeps_arguments = keeps_arguments

    def intent(
        self,
        principal: Principal,
        call: ToolCall,
        decision: Decision,
        stake: RunStake | None,
        run: RunState | None,
        ts_us: int | None = None,
    ) -> Entry:
        """The intent of a call, decided at `ts_us` or now: it stays open until its outcome is
        recorded."""
        ts_us = self._clock.now_us() if ts_us is None else ts_us
        entry = self._of_call("intent", principal, call, decision, None, run, ts_us)
        opens = (principal.tenant, call.call_id, self._node_id, self._boot_id)
        entry.opens = _new_row(OpenIntentRow, opens)
        if stake is not None:
            entry.run_key, entry.run_version, entry.run_step = stake
        return entry

    def redraft(
        self,
        entry: Entry,
        principal: Principal,
        call: ToolCall,
        stake: RunStake | None,
        run: RunState | None,
    ) -> Redraft:
        """What is recorded in place of an intent that a limit has no room for. It is worked out by
        the writer, so all that is drawn or looked up is taken from the intent beforehand."""
        ts_us, salt = entry.receipt.ts_us, bytes.fromhex(entry.facts.salt if entry.facts else "")
        nonce = salt[:NONCE_BYTES]
        arguments = self._redact(call.args)

        def redraft(decision: Decision) -> Entry:
            refused = None
            if not decision.forward:
                refused = Refused(decision.code, decision.reason, decision=decision)
            receipt, facts = call_draft(
                "intent" if refused is None else "refusal",
                principal,
                call,
                decision,
                refused,
                ts_us=ts_us,
                nonce=nonce,
                arguments=arguments,
                keeps_arguments=self._keeps_arguments,
                run=run,
            )
            instead = Entry(receipt, facts)
            if refused is None:
                instead.opens = entry.opens
                if stake is not None:
                    instead.run_key, instead.run_step = stake.key, stake.step
            return instead

        return redraft

    def refusal(
        self,
        principal: Principal,
        call_id: str,
        upstream: str,
        action: str,
        refused: Refused,
        call: ToolCall | None,
        run: RunState | None,
    ) -> Entry:
        """The refusal of a call, or of a request that never became one."""
        tool = None
        if call is not None:
            try:
                ts_us, decision = self._clock.now_us(), refused.decision
                return self._of_call("refusal", principal, call, decision, refused, run, ts_us)
            except NotCanonical:
                upstream, tool, action = call.tool.upstream, call.tool.name, call.action
        receipt = unread_draft(
            principal,
            call_id=call_id,
            upstream=upstream,
            tool=tool,
            action=action,
            refused=refused,
            ts_us=self._clock.now_us(),
        )
        return Entry(receipt)

    def outcome(self, tenant: str, agent: str | None, call_id: str, outcome: Outcome) -> Entry:
        """How a call that was recorded as an intent ended."""
        receipt = blank_receipt(
            tenant,
            "outcome",
            event_id=self._clock.new_id(),
            call_id=call_id,
            ts_us=self._clock.now_us(),
            agent_id=agent,
            outcome=_KIND[outcome.kind],
            http_status=outcome.http_status,
        )
        facts = None
        if outcome.request_state is not None:
            said = orjson.dumps({"mcp": {"request_state": outcome.request_state}})
            salt = salt_beside(self._clock.random_bytes(NONCE_BYTES), said)
            facts = CallFactsRow(tenant, 0, salt.hex(), None, said.decode())
            receipt = receipt._replace(resource=OF_SALT + shown_salt(salt))
        return Entry(receipt, facts, closes=call_id)

    def _of_call(
        self,
        kind: str,
        principal: Principal,
        call: ToolCall,
        decision: Decision | None,
        refused: Refused | None,
        run: RunState | None,
        ts_us: int,
    ) -> Entry:
        receipt, facts = call_draft(
            kind,
            principal,
            call,
            decision,
            refused,
            ts_us=ts_us,
            nonce=self._clock.random_bytes(NONCE_BYTES),
            arguments=self._redact(call.args),
            keeps_arguments=self._keeps_arguments,
            run=run,
        )
        return Entry(receipt, facts)
