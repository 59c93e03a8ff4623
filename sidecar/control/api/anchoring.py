"""How far signed heads vouch for receipts that the API verifies, as its answers say it.

Knows: that the heads are those the store keeps, and that the key they are believed by is this
sidecar's own; that they are read before the head of the chain is.
Must not know: how receipts are verified by themselves.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from sidecar.control.api.backroom import Seat
from sidecar.control.api.rooms import Rooms
from sidecar.control.api.route import Asked, Shape
from sidecar.ledger.anchors import Anchors, TrustedKey
from sidecar.ledger.stored_heads import HeldStretch, signed_heads
from sidecar.signed_note import SigningKey
from storage.records import HeadRow

NONE: Final = Anchors()


class AnchoredShape(Shape):
    """Whether what was looked at holds; if not, `error` says what does not.

    `anchored_at` is the size of the newest head, signed by this sidecar's key, that vouches for it;
    0 if none does. Receipts since `unanchored_since` have none yet: that nothing was cut or
    rewritten there is not shown. Null if there are none of them.
    """

    verified: bool
    anchored_at: int
    unanchored_since: int | None
    error: str | None


async def stretch_of(asked: Asked) -> HeldStretch:
    """What holds receipts of the tenant who asks; made before the head of the chain is read. Raises
    a StoreError."""
    heads = await signed_heads(asked.rooms.reader, asked.tenant)
    return HeldStretch(asked.rooms.reader, heads, _trusted(asked.rooms))


def _trusted(rooms: Rooms) -> list[TrustedKey]:
    key = rooms.config.receipts.key
    return [] if key is None else [TrustedKey(SigningKey(key.reveal()).public)]


async def anchors_of(seat: Seat, stretch: HeldStretch, head: HeadRow) -> Anchors:
    """What the heads show of receipts that were all taken. Raises a StoreError."""
    await stretch.prove_newest(head.seq)
    return await seat.do(partial(stretch.anchors, head.seq))


def words_of(anchors: Anchors) -> str | None:
    """What is wrong; None if nothing is."""
    return None if anchors.fault is None else anchors.fault.what


def anchored(anchors: Anchors, first: int, last: int) -> dict[str, Any]:
    """The members of AnchoredShape, of receipts `first` to `last`."""
    at = 0 if anchors.fault is not None or anchors.size < first else anchors.size
    return {"anchored_at": at, "unanchored_since": None if at >= last else max(first, at + 1)}
