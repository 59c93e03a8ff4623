"""The waiting room of the write queue: who waits, in which lane, and who goes next. Pure.

Knows: fairness. A batch takes everything that waits while it fits; when more waits than fits,
tenants take turns, so that one noisy tenant delays itself and nobody else.
Must not know: futures, time, stores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """Items by tenant, first in first out within one. Items are told apart by identity."""

    __slots__ = ("_turns", "_waiting", "depth")

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}
        #: Tenants with something waiting; the left one is next.
        self._turns: deque[str] = deque()
        self.depth = 0

    def add(self, tenant_id: str, item: T) -> None:
        """Puts an item at the end of its tenant's line."""
        line = self._waiting.get(tenant_id)
        if line is None:
            line = self._waiting[tenant_id] = deque()
            self._turns.append(tenant_id)
        line.append(item)
        self.depth += 1

    def put_back(self, items: Iterable[tuple[str, T]]) -> None:
        """Puts items back at the front of their lines, in the order given."""
        for tenant_id, item in reversed(list(items)):
            line = self._waiting.get(tenant_id)
            if line is None:
                line = self._waiting[tenant_id] = deque()
                self._turns.append(tenant_id)
            line.appendleft(item)
            self.depth += 1

    def remove(self, tenant_id: str, item: T) -> bool:
        """Takes an item out before its turn; False if it is not there."""
        line = self._waiting.get(tenant_id)
        place = next((i for i, other in enumerate(line or ()) if other is item), None)
        if line is None or place is None:
            return False
        del line[place]
        self.depth -= 1
        if not line:
            del self._waiting[tenant_id]
            self._turns.remove(tenant_id)
        return True

    def take(self, count_max: int) -> list[T]:
        """The items whose turn it is: all if they fit, else one of each tenant in turn."""
        if self.depth <= count_max:
            taken = [item for line in self._waiting.values() for item in line]
            self._waiting.clear()
            self._turns.clear()
            self.depth = 0
            return taken
        taken = []
        while len(taken) < count_max:
            tenant_id = self._turns.popleft()
            line = self._waiting[tenant_id]
            taken.append(line.popleft())
            if line:
                self._turns.append(tenant_id)
            else:
                del self._waiting[tenant_id]
        self.depth -= len(taken)
        return taken


def shares(committed: int, queued: int, count_max: int) -> tuple[int, int]:
    """How many of each lane ride in a batch of `count_max`, given how many wait.

    The committed lane goes first, because somebody waits; yet the queued lane is left up to half
    the batch, for each call in the committed lane will bring an outcome to the queued one.
    """
    for_queued = min(queued, count_max // 2)
    for_committed = min(committed, count_max - for_queued)
    return for_committed, min(queued, count_max - for_committed)
