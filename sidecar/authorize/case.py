"""What is known of one authorize call so far, filled from left to right as it goes its way.

Must not know: what fills it, or what follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from sidecar.authorize.request import AuthorizeRequest
from sidecar.ledger.claims import Spend
from sidecar.ledger.delegations import Mark
from sidecar.model import Decision, Principal, ToolCall, TrustLevel
from sidecar.policy.runs import RunState
from sidecar.proxy.masked_calls import MaskedCall


class Permits(Protocol):
    """A yes that a call may spend."""

    def granted(self, decision: Decision) -> Decision:
        """The decision with this yes, or as it is."""
        ...

    def spend(self, call_id: str, decision: Decision) -> Spend:
        """What the record takes along."""
        ...


@dataclass(slots=True)
class Case:
    """What is known of one authorize call so far.

    `call` is as it was sent; `shown` as it may be recorded. `trust` is what the caller said, and
    `run` his run with no more trust than that. `redacted` are the parameters he has to mask.
    """

    call_id: str
    principal: Principal
    request: AuthorizeRequest
    call: ToolCall
    trust: TrustLevel
    run_id: str
    mark: Mark
    shown: ToolCall
    run: RunState | None = None
    redacted: tuple[str, ...] = ()
    #: What is masked of it, while it is judged.
    masked: MaskedCall | None = None
    #: Whether other calls of its run were recorded before it, so that it waits for its turn.
    is_overtaken: bool = False
    #: The yes by which it is to go ahead.
    permit: Permits | None = None
    #: Whether some of its arguments are not known any more.
    is_masked: bool = False
    #: The person who spends the yes for the agent; "" if it does itself.
    spent_for_by: str = ""

    @property
    def effective_trust(self) -> TrustLevel:
        """The least trust that is known of what led to the call."""
        return self.trust if self.run is None else min(self.trust, self.run.trust)

    @property
    def recorded_principal(self) -> Principal:
        """Who calls as receipts tell it: with the trust that the decision rested on, and the user
        he named."""
        return replace(self.principal, trust=self.effective_trust, user=self.request.user_id)

    @property
    def recorded_call(self) -> ToolCall:
        """The call as it may be recorded, with what its agent was told to mask, and who acted for
        it."""
        more: dict[str, Any] = {}
        if self.redacted:
            more["redacted"] = list(self.redacted)
        if self.spent_for_by:
            more["spent_for_by"] = self.spent_for_by
        if not more:
            return self.shown
        return self.shown._replace(beside={**(self.shown.beside or {}), **more})
