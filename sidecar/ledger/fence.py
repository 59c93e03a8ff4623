"""The fence: while it stands, nothing is put on record, and so no call goes ahead.

Knows: whether it stands, for what, and what a caller is told meanwhile. The way of a call asks
`is_up` and no more.
Must not know: who raises it and when, what has to end first, or how it is kept in the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.errors import Refused

#: When a caller may try again; a move takes minutes.
RETRY_AFTER_S = 10


@dataclass(frozen=True, slots=True)
class Standing:
    """A fence that stands: `fence_id` names it, `target` is where the store is being moved to.

    `is_moved` says that the move is over and the store was left for good.
    """

    fence_id: str
    target: str
    reason: str
    since_us: int
    is_moved: bool = False


class Fence:
    """One for a sidecar. All is done on the event loop's thread."""

    __slots__ = ("is_up", "standing")

    def __init__(self) -> None:
        #: Asked once on the way of each call.
        self.is_up = False
        self.standing: Standing | None = None

    def stand(self, standing: Standing) -> None:
        """From now on calls are refused."""
        self.standing = standing
        self.is_up = True

    def lift(self) -> None:
        """Calls go ahead again."""
        self.is_up = False
        self.standing = None

    def refused(self) -> Refused:
        """What a call meets; nothing of the store is said to its caller."""
        if self.standing is not None and self.standing.is_moved:
            return Refused("store_moved", detail="store_moved")
        return Refused("store_fenced", detail="store_fenced", retry_after_s=RETRY_AFTER_S)

    def sentence(self) -> str:
        """What an operator reads; "" while no fence stands."""
        standing = self.standing
        if standing is None:
            return ""
        if standing.is_moved:
            return (
                f"The store was moved to {standing.target}: calls are refused. Set `store:` to it "
                "and restart the sidecar."
            )
        return (
            f"The store is fenced for a move to {standing.target}: calls are refused, reads are "
            "served. `store move --fence` with the same URLs goes on where it was; `store unfence` "
            "lifts the fence."
        )
