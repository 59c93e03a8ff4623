"""Checkpoints and proofs: what shows that a chain was neither cut nor rewritten.

Knows: that sizes of trees are numbers of receipts, and that proofs are lists of hashes which any
verifier of RFC 6962 takes.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.control.api.parameters import SEQ_MAX, Parameter, Whole
from sidecar.control.api.problems import not_found
from sidecar.control.api.receipts import SEQ
from sidecar.control.api.rooms import CheckpointNote, kept
from sidecar.control.api.route import READERS, Asked, Listed, Route, Shape

ROOM: Final = "checkpoints"
READ_S: Final = 10.0
_WHAT: Final = "checkpoints: there is no key for them"


class CheckpointShape(Shape):
    """A signed note (C2SP tlog-checkpoint) over the first `size` receipts."""

    size: int
    root: str
    at_us: int
    note: str


class InclusionShape(Shape):
    """That receipt `seq` is in the tree of that size (RFC 6962 section 2.1.1)."""

    seq: int
    size: int
    hashes: list[str]


class ConsistencyShape(Shape):
    """That the first tree is the beginning of the second (RFC 6962 section 2.1.2)."""

    first: int
    second: int
    hashes: list[str]


async def list_checkpoints(asked: Asked) -> Listed:
    """Largest tree first."""
    room = kept(asked.rooms.checkpoints, _WHAT)
    before = int(asked.position[0]) if asked.position is not None else SEQ_MAX
    notes = await room.before(asked.tenant, before, asked.limit + 1)
    page = notes[: asked.limit]
    return Listed(
        [_told(one) for one in page], (page[-1].size,) if len(notes) > asked.limit else None
    )


async def get_latest(asked: Asked) -> dict[str, Any]:
    """The newest checkpoint."""
    found = await kept(asked.rooms.checkpoints, _WHAT).latest(asked.tenant)
    if found is None:
        raise not_found("checkpoint", "yet")
    return _told(found)


async def get_inclusion(asked: Asked) -> dict[str, Any]:
    """The proof that a receipt is in a tree."""
    room = kept(asked.rooms.checkpoints, _WHAT)
    seq, size = asked.values["seq"], asked.values["size"]
    hashes = await room.inclusion(asked.tenant, seq, size) if seq <= size else None
    if hashes is None:
        raise not_found(f"receipt {seq} in a tree of size", size)
    return {"seq": seq, "size": size, "hashes": list(hashes)}


async def get_consistency(asked: Asked) -> dict[str, Any]:
    """The proof that a tree grew out of another."""
    room = kept(asked.rooms.checkpoints, _WHAT)
    first, second = asked.values["first"], asked.values["second"]
    hashes = await room.consistency(asked.tenant, first, second) if first <= second else None
    if hashes is None:
        raise not_found(f"tree of size {first} at the beginning of one of size", second)
    return {"first": first, "second": second, "hashes": list(hashes)}


def _told(one: CheckpointNote) -> dict[str, Any]:
    return one._asdict()


SIZE: Final = Whole(1, SEQ_MAX)

ROUTES: Final = (
    Route(
        "list_checkpoints", "GET", "/v1/checkpoints", "Signed checkpoints, the newest first",
        READERS, list_checkpoints, list[CheckpointShape],
        pages="cursor", problems=("not_kept",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_latest_checkpoint", "GET", "/v1/checkpoints/latest", "The newest checkpoint",
        READERS, get_latest, CheckpointShape,
        problems=("not_found", "not_kept"), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_consistency_proof", "GET", "/v1/checkpoints/consistency",
        "The proof that one tree is the beginning of another", READERS, get_consistency,
        ConsistencyShape,
        (
            Parameter("first", SIZE, "size of the smaller tree", is_required=True),
            Parameter("second", SIZE, "size of the larger tree", is_required=True),
        ),
        problems=("not_found", "not_kept"), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_inclusion_proof", "GET", "/v1/receipts/{seq}/inclusion",
        "The proof that a receipt is in a tree", READERS, get_inclusion, InclusionShape,
        (SEQ, Parameter("size", SIZE, "size of the tree", is_required=True)),
        problems=("not_found", "not_kept"), time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
