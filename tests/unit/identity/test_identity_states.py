"""How agents may come to stand otherwise: the whole table, and what callers are told."""

from __future__ import annotations

import pytest

from sidecar.errors import Refused
from sidecar.identity.agent_states import MOVES, Move, after, barred, require_active
from sidecar.model import AgentState

#: What may be done to an agent, and what it is then; all else is refused.
ALLOWED = {
    "active": {
        "freeze": "frozen", "quarantine": "quarantined", "revoke": "revoked", "delete": "deleted",
    },
    "frozen": {
        "unfreeze": "active", "quarantine": "quarantined", "revoke": "revoked",
        "delete": "deleted",
    },
    "quarantined": {"restore": "active", "revoke": "revoked", "delete": "deleted"},
    "revoked": {"delete": "deleted"},
    "deleted": {},
}  # fmt: skip


@pytest.mark.parametrize("move", list(Move))
@pytest.mark.parametrize("state", list(AgentState))
def test_w13_every_move_from_every_state(state: AgentState, move: Move) -> None:
    assert after(state, move) == ALLOWED[state].get(move)


def test_w13_nothing_leads_back_from_the_end() -> None:
    reached = {target for origins, target in MOVES.values() if origins & {AgentState.REVOKED}}
    assert reached == {AgentState.DELETED}
    assert not any(AgentState.DELETED in origins for origins, _ in MOVES.values())


def test_each_state_is_told_apart_only_short_of_the_end() -> None:
    told = {state: barred(state).code for state in AgentState if state is not AgentState.ACTIVE}
    assert told == {
        "frozen": "agent_frozen",
        "quarantined": "agent_quarantined",
        "revoked": "unauthenticated",
        "deleted": "unauthenticated",
    }
    require_active(AgentState.ACTIVE)
    with pytest.raises(Refused):
        require_active(AgentState.FROZEN)
