"""What is known of one request so far, filled from left to right as it goes its way.

Must not know: what fills it, or what follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.ledger.recorder import Intent
from sidecar.model import OutcomeKind, Principal, ToolCall
from sidecar.policy.index import PolicySet
from sidecar.policy.runs import RunState
from sidecar.policy.terms import Obligations
from sidecar.telemetry.spans import Stages

#: Tenant, agent, upstream, session as the agent has it, id of the request. 1 and "1" are two.
OpenRequest = tuple[str, str, str, str, str | int]

if TYPE_CHECKING:
    from sidecar.ledger.run_turns import Turn
    from sidecar.proxy.agent_side import AgentSide
    from sidecar.proxy.asked_ids import AskedId
    from sidecar.proxy.held_bodies import HeldBody
    from sidecar.proxy.holding import Permit
    from sidecar.proxy.masked_calls import MaskedCall


@dataclass(slots=True)
class Visit:
    """What is known of one request so far; filled from left to right as it goes its way."""

    call_id: str
    started_ns: int
    upstream: Upstream | None = None
    principal: Principal | None = None
    policy_set: PolicySet | None = None
    call: ToolCall | None = None
    run: RunState | None = None
    obligations: Obligations | None = None
    intent: Intent | None = None
    forwarding_ns: int = 0
    answered_ns: int = 0
    was_whole: bool = False
    http_status: int | None = None
    #: The agent's side, for who has to be told that he waits.
    agent: AgentSide | None = None
    #: Whether the call has a place among those in flight to its upstream.
    has_place: bool = False
    #: As which tenant's that counts; None where tenants do not share.
    share: str | None = None
    permit: Permit | None = None
    #: Whether other calls of its run went ahead before it was recorded, so that it waits for its
    #: turn: no other call of the run has one meanwhile.
    is_overtaken: bool = False
    turn: Turn | None = None
    #: What is masked of the call, while it is judged.
    masked: MaskedCall | None = None
    #: As what it is known among the requests of its MCP session that are not answered yet; or
    #: which request of the server it answers.
    open_request: OpenRequest | AskedId | None = None
    #: What a held call is refused with whose agent left, or took it back.
    unheard: Refused | None = None
    #: Whether its agent wants it no more, and has said so over MCP.
    is_taken_back: bool = False
    #: Tenant and id of the approval that it is held for, once that is known.
    waits_for: tuple[str, str] | None = None
    #: How long it was held for a yes.
    held_ns: int = 0
    #: How the call ends once its answer is given, if nothing else comes of it.
    ends_as: OutcomeKind = OutcomeKind.COMPLETED
    request_state: str | None = None
    #: What is held of its body; None of one that is small.
    body: HeldBody | None = None
    #: What is held of its answer.
    held_bytes: int = 0
    #: How it ended, once it has.
    ended: OutcomeKind | None = None
    #: What it notes for whoever keeps traces; None where nobody does.
    stages: Stages | None = None

    @property
    def run_id(self) -> str:
        """The id of the run it was judged in, "" of one without."""
        return "" if self.run is None else self.run.run_id

    def end_turn(self) -> None:
        """Others of its run may have theirs."""
        if self.turn is not None:
            self.turn.end()
        self.turn, self.is_overtaken = None, False
