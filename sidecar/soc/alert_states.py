"""The states of alerts and incidents, and the moves between them, as tables. Pure.

Knows: that both begin open and end closed; that nothing is opened again (what happens after is a
new alert, in a new incident); that a contained incident is one somebody has done something about.
Must not know: stores, clocks, who may move what.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class AlertState(enum.StrEnum):
    """Of an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class IncidentState(enum.StrEnum):
    """Of an incident. All but closed ones take further alerts."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CONTAINED = "contained"
    CLOSED = "closed"


class Move(enum.StrEnum):
    """What is done to one, as it follows `alert.` and `incident.` in receipts and audit rows."""

    ACKNOWLEDGE = "acknowledge"
    CONTAIN = "contain"
    CLOSE = "close"
    #: Changes no state; only incidents take it.
    NOTE = "note"


#: From a state by a move to the state after it. What stands nowhere cannot be done.
ALERT_MOVES: Final[Mapping[tuple[AlertState, Move], AlertState]] = {
    (AlertState.OPEN, Move.ACKNOWLEDGE): AlertState.ACKNOWLEDGED,
    (AlertState.OPEN, Move.CLOSE): AlertState.CLOSED,
    (AlertState.ACKNOWLEDGED, Move.CLOSE): AlertState.CLOSED,
}
INCIDENT_MOVES: Final[Mapping[tuple[IncidentState, Move], IncidentState]] = {
    (IncidentState.OPEN, Move.ACKNOWLEDGE): IncidentState.ACKNOWLEDGED,
    (IncidentState.OPEN, Move.CONTAIN): IncidentState.CONTAINED,
    (IncidentState.OPEN, Move.CLOSE): IncidentState.CLOSED,
    (IncidentState.OPEN, Move.NOTE): IncidentState.OPEN,
    (IncidentState.ACKNOWLEDGED, Move.CONTAIN): IncidentState.CONTAINED,
    (IncidentState.ACKNOWLEDGED, Move.CLOSE): IncidentState.CLOSED,
    (IncidentState.ACKNOWLEDGED, Move.NOTE): IncidentState.ACKNOWLEDGED,
    (IncidentState.CONTAINED, Move.CLOSE): IncidentState.CLOSED,
    (IncidentState.CONTAINED, Move.NOTE): IncidentState.CONTAINED,
    (IncidentState.CLOSED, Move.NOTE): IncidentState.CLOSED,
}


def alert_after(state: str, move: Move) -> AlertState | None:
    """The state of an alert after a move; None if it cannot be made."""
    return ALERT_MOVES.get((AlertState(state), move))


def incident_after(state: str, move: Move) -> IncidentState | None:
    """The state of an incident after a move; None if it cannot be made."""
    return INCIDENT_MOVES.get((IncidentState(state), move))
