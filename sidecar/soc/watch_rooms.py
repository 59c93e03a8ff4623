"""What watching needs of the rooms around it, the same for all tenants.

Must not know: how any of it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from storage.watch_rows import WatchMark, WatchMemory

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.soc.chain_link import Break
    from sidecar.soc.detection import Detections
    from sidecar.soc.model import Hit
    from sidecar.soc.watch_counts import WatchCounts
    from sidecar.soc.watch_share import Share
    from storage.sql_store import SqlStore

Put = WatchMark | WatchMemory


class Raises(Protocol):
    """What makes alerts of hits."""

    async def __call__(self, tenant: str, hits: Sequence[Hit], puts: Sequence[Put]) -> bool:
        """Puts what comes of the hits together with `puts`; False, and nothing, if somebody else
        was faster. Raises a StoreError; then it may be tried again."""
        ...

    async def resume(self, tenant: str, owed: Sequence[WatchMemory]) -> None:
        """Does what was still to be done when somebody who watched ended. Raises a StoreError."""
        ...


class Broke(Protocol):
    """Who is told of chains that do not hold."""

    def __call__(self, tenant: str, found: Break) -> None:
        """One place."""
        ...


@dataclass(frozen=True, slots=True)
class Rooms:
    """`detections` gives those in force."""

    store: SqlStore
    clock: Clock
    share: Share
    counts: WatchCounts
    detections: Callable[[], Detections]
    raises: Raises
