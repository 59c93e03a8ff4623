"""Checkpoints and proofs: what shows that a chain was neither cut nor rewritten.

Knows: that sizes of trees are numbers of receipts, and that proofs are lists of hashes which any
verifier of RFC 6962 takes.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.control.api.parameters import SEQ_MAX, Parameter, Whole
from sidecar.control.api.problems import ApiProblem, not_found
from sidecar.control.api.receipts import SEQ
from sidecar.control.api.route import READERS, Asked, Listed, Route, Shape
from sidecar.ledger import proofs
from storage.tree import CheckpointRow

ROOM: Final = "checkpoints"
READ_S: Final = 10.0


class CheckpointShape(Shape):
    """A signed note (C2SP tlog-checkpoint) over the first `size` receipts."""

    size: int
    root: str
    kind: str
    at_us: int
    note: str


class InclusionShape(Shape):
    """That receipt `seq` is in the tree of that size (RFC 6962 section 2.1.1)."""

    seq: int
    size: int
    leaf: str
    root: str
    hashes: list[str]


class ConsistencyShape(Shape):
    """That the first tree is the beginning of the second (RFC 6962 section 2.1.2)."""

    first: int
    second: int
    hashes: list[str]


async def list_checkpoints(asked: Asked) -> Listed:
    """Largest tree first."""
    before = int(asked.position[0]) if asked.position is not None else None
    notes = await proofs.list_checkpoints(
        asked.rooms.reader, asked.tenant, before_size=before, limit=asked.limit + 1
    )
    page = notes[: asked.limit]
    return Listed(
        [_told(one) for one in page], (page[-1].size,) if len(notes) > asked.limit else None
    )


async def get_latest(asked: Asked) -> dict[str, Any]:
    """The newest checkpoint."""
    return _told(await _latest(asked))


async def _latest(asked: Asked) -> CheckpointRow:
    """Without a signed tree there is nothing that a proof could be held against."""
    found = await proofs.latest_checkpoint(asked.rooms.reader, asked.tenant)
    if found is None:
        raise ApiProblem("not_found", "there is no checkpoint")
    return found


async def get_inclusion(asked: Asked) -> dict[str, Any]:
    """The proof that a receipt is in a tree."""
    latest, seq, size = await _latest(asked), asked.values["seq"], asked.values["size"]
    size = latest.size if size is None else size
    if not seq <= size <= latest.size:
        raise not_found(f"receipt {seq} in a signed tree of size", size)
    found = await proofs.inclusion(asked.rooms.reader, asked.tenant, seq, size)
    return {
        "seq": seq,
        "size": size,
        "leaf": found.leaf.hex(),
        "root": found.root.hex(),
        "hashes": [one.hex() for one in found.hashes],
    }


async def get_consistency(asked: Asked) -> dict[str, Any]:
    """The proof that a tree grew out of another."""
    latest, first, second = await _latest(asked), asked.values["first"], asked.values["second"]
    second = latest.size if second is None else second
    if not first <= second <= latest.size:
        raise not_found(f"tree of size {first} at the beginning of a signed one of size", second)
    found = await proofs.consistency(asked.rooms.reader, asked.tenant, first, second)
    return {"first": first, "second": second, "hashes": [one.hex() for one in found.hashes]}


async def get_proof(asked: Asked) -> bytes:
    """A receipt with its proof and the newest checkpoint, as a file that needs nothing else."""
    await _latest(asked)
    return (
        await proofs.portable_proof(asked.rooms.reader, asked.tenant, asked.values["seq"])
    ).encode()


def _told(one: CheckpointRow) -> dict[str, Any]:
    return {name: getattr(one, name) for name in CheckpointShape.model_fields}


SIZE: Final = Whole(1, SEQ_MAX)

ROUTES: Final = (
    Route(
        "list_checkpoints", "GET", "/v1/checkpoints", "Signed checkpoints, the newest first",
        READERS, list_checkpoints, list[CheckpointShape],
        pages="cursor", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_latest_checkpoint", "GET", "/v1/checkpoints/latest", "The newest checkpoint",
        READERS, get_latest, CheckpointShape,
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_consistency_proof", "GET", "/v1/checkpoints/consistency",
        "The proof that one tree is the beginning of another", READERS, get_consistency,
        ConsistencyShape,
        (
            Parameter("first", SIZE, "size of the smaller tree", is_required=True),
            Parameter("second", SIZE, "size of the larger tree; that of the newest checkpoint"),
        ),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_inclusion_proof", "GET", "/v1/receipts/{seq}/inclusion",
        "The proof that a receipt is in a tree", READERS, get_inclusion, InclusionShape,
        (SEQ, Parameter("size", SIZE, "size of the tree; that of the newest checkpoint")),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_receipt_proof", "GET", "/v1/receipts/{seq}/proof",
        "A receipt with its proof and the newest checkpoint, as one file (C2SP tlog-proof)",
        READERS, get_proof, bytes, (SEQ,), media_type="text/plain",
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
)  # fmt: skip
