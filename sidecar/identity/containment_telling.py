"""Who is told of containments: sinks, and the incident that one was begun for.

Must not know: who that is, how they are reached.
"""

from __future__ import annotations

from typing import Protocol

from storage.watch_rows import ContainmentRow, DeliveryRow


class TellsContainments(Protocol):
    """Who is told when one begins and ends."""

    def rows(self, row: ContainmentRow, actor: str, reason: str) -> tuple[DeliveryRow, ...]:
        """What is put in the transaction in which it comes to stand so; of a new one its version
        is 1."""
        ...

    def recorded(self) -> None:
        """Such a transaction is durable."""
        ...


class NotesContainments(Protocol):
    """Who writes down, on the incident, what a person contained for it."""

    async def __call__(self, row: ContainmentRow) -> str:
        """ "" once it stands there; or why it does not."""
        ...


async def nowhere(row: ContainmentRow) -> str:
    """Where no incidents are kept."""
    return ""


class Nobody:
    """Nobody is told."""

    def rows(self, row: ContainmentRow, actor: str, reason: str) -> tuple[DeliveryRow, ...]:
        """See `TellsContainments.rows`."""
        return ()

    def recorded(self) -> None:
        """See `TellsContainments.recorded`."""
