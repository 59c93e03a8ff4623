"""What sinks are told of containments: that one began, and that it ended.

Knows: that it goes into the transaction of the change itself; that what is held back matters as
much as an approval does.
Must not know: how a sink is reached, how a containment is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.identity.containment_words import shown_containment
from sidecar.soc.deliveries import Ids, Kind, Told, deliveries_of
from sidecar.soc.model import Severity

if TYPE_CHECKING:
    from storage.watch_rows import ContainmentRow, DeliveryRow

CONTAINMENT_SEVERITY: Final = Severity.HIGH


class ContainmentNews:
    """See `identity.containment_telling.TellsContainments`. `ring` is called when something was
    put."""

    def __init__(self, told: Sequence[Told], ring: Callable[[], None]) -> None:
        self._told = told
        self._ring = ring

    def rows(self, row: ContainmentRow, actor: str, reason: str) -> tuple[DeliveryRow, ...]:
        """See `TellsContainments.rows`."""
        has_ended = row.version > 1
        kind = Kind.CONTAINMENT_ENDED if has_ended else Kind.CONTAINMENT_STARTED
        body = shown_containment(row)
        if has_ended:
            body |= {"ended_by": actor, "ended_reason": reason}
        ids = Ids(row.tenant_id, row.containment_id, row.version)
        return deliveries_of(kind, body, CONTAINMENT_SEVERITY, self._told, ids, row.changed_at_us)

    def recorded(self) -> None:
        """See `TellsContainments.recorded`."""
        if self._told:
            self._ring()
