"""How an agent may come to stand otherwise: one table of moves, and nothing beside it.

Knows: that a freeze is lifted by unfreezing alone and a quarantine by restoring alone, that revoked
and deleted are final, so that nothing revives them (an agent of a new name can be registered), and
what a caller in each state is told.
Must not know: who moves, the store, HTTP.
"""

from __future__ import annotations

import enum
from typing import Final

from sidecar.errors import Refused
from sidecar.model import AgentState


class Move(enum.StrEnum):
    """What is done to an agent that is there."""

    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    QUARANTINE = "quarantine"
    RESTORE = "restore"
    REVOKE = "revoke"
    DELETE = "delete"


_ACTIVE, _FROZEN, _QUARANTINED = AgentState.ACTIVE, AgentState.FROZEN, AgentState.QUARANTINED
_REVOKED, _DELETED = AgentState.REVOKED, AgentState.DELETED

#: From which states a move leads where; any other is refused.
MOVES: Final[dict[Move, tuple[frozenset[AgentState], AgentState]]] = {
    Move.FREEZE: (frozenset({_ACTIVE}), _FROZEN),
    Move.UNFREEZE: (frozenset({_FROZEN}), _ACTIVE),
    Move.QUARANTINE: (frozenset({_ACTIVE, _FROZEN}), _QUARANTINED),
    Move.RESTORE: (frozenset({_QUARANTINED}), _ACTIVE),
    Move.REVOKE: (frozenset({_ACTIVE, _FROZEN, _QUARANTINED}), _REVOKED),
    Move.DELETE: (frozenset({_ACTIVE, _FROZEN, _QUARANTINED, _REVOKED}), _DELETED),
}

#: States that end an agent: its credentials count for nothing, and it is told nothing.
FINAL: Final = frozenset({_REVOKED, _DELETED})

_CODES: Final = {_FROZEN: "agent_frozen", _QUARANTINED: "agent_quarantined"}


def after(state: AgentState, move: Move) -> AgentState | None:
    """The state after a move; None if it is not to be made from this one."""
    origins, target = MOVES[move]
    return target if state in origins else None


def require_active(state: AgentState) -> None:
    """Raises Refused for an agent that may not call."""
    if state is not _ACTIVE:
        raise barred(state)


def barred(state: AgentState) -> Refused:
    """What a caller meets who is not active. One that is at its end is as unknown as any other."""
    return Refused(_CODES.get(state, "unauthenticated"))
