"""What an alert rests on, as the store keeps it: the receipts it was raised for, and later ones.

Knows: that what an alert was raised for never changes, for a receipt commits to it; that of later
hits the last are kept and the rest counted. Pure.
Must not know: detections, stores, how a receipt is proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from sidecar.soc.model import Evidence

#: Receipts of the hit that raised an alert: the first and the last of them.
RAISED_FIRST_MAX: Final = 8
RAISED_LAST_MAX: Final = 24
#: Receipts of the hits that joined it: the last of them.
JOINED_MAX: Final = 32

_SORTED: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


class Resting(NamedTuple):
    """`raised` are the receipts of the first hit, `joined` the last ones of later hits, each by
    seq; there were at least `left_out` more."""

    raised: tuple[Evidence, ...]
    joined: tuple[Evidence, ...] = ()
    left_out: int = 0

    @property
    def every(self) -> tuple[Evidence, ...]:
        """All that are named, by seq."""
        return (*self.raised, *self.joined)


def first_of(evidence: Iterable[Evidence], left_out: int = 0) -> Resting:
    """What an alert rests on when it is raised, by a hit that does not name so many more."""
    found = _ordered(evidence)
    if len(found) <= RAISED_FIRST_MAX + RAISED_LAST_MAX:
        return Resting(tuple(found), (), left_out)
    kept = (*found[:RAISED_FIRST_MAX], *found[-RAISED_LAST_MAX:])
    return Resting(kept, (), left_out + len(found) - len(kept))


def joined_to(resting: Resting, evidence: Sequence[Evidence], left_out: int = 0) -> Resting:
    """What it rests on once a later hit, that does not name so many more, has joined it. What is
    named already stays as it is. `left_out` counts nothing twice: it may be too few."""
    raised, joined = ({one.seq for one in some} for some in (resting.raised, resting.joined))
    last = max(raised | joined, default=0)
    new = [one for one in evidence if one.seq not in raised]
    # Named now, and left out until now, it may be: so it is if it is no later than what was named.
    found = sum(one.seq < last and one.seq not in joined for one in new)
    kept = tuple(_ordered((*new, *resting.joined))[-JOINED_MAX:])
    gone = joined - {one.seq for one in kept}
    others = (raised | joined) - {one.seq for one in evidence}
    left = max(0, resting.left_out - found) + len(gone)
    return Resting(resting.raised, kept, max(left, left_out - len(others)))


def evidence_text(resting: Resting) -> str:
    """As the store keeps it."""
    kept = {
        "raised": [_told(one) for one in resting.raised],
        "joined": [_told(one) for one in resting.joined],
        "left_out": resting.left_out,
    }
    return orjson.dumps(kept, option=_SORTED).decode()


def read_evidence(text: str) -> Resting:
    """What `evidence_text` gave. Raises ValueError for anything else."""
    try:
        kept = orjson.loads(text)
        if not isinstance(kept, dict) or set(kept) != {"raised", "joined", "left_out"}:
            raise ValueError("it is not what an alert rests on")
        return Resting(
            tuple(_read(one) for one in kept["raised"]),
            tuple(_read(one) for one in kept["joined"]),
            _number(kept["left_out"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is not what an alert rests on: {error}") from error


def evidence_digest(evidence: Sequence[Evidence]) -> str:
    """SHA-256 of receipts that are named, in lower-case hex: what a receipt commits to."""
    return sha256(orjson.dumps([_told(one) for one in evidence], option=_SORTED)).hexdigest()


def _ordered(evidence: Iterable[Evidence]) -> list[Evidence]:
    """By seq, each once."""
    return [one for _, one in sorted({one.seq: one for one in evidence}.items())]


def _told(one: Evidence) -> dict[str, Any]:
    return one._asdict()


def _read(one: Any) -> Evidence:
    if not isinstance(one, dict) or set(one) != set(Evidence._fields):
        raise ValueError("a receipt is not named as an alert names it")
    found = Evidence(
        _number(one["seq"]), one["receipt_hash"], one["call_id"], _number(one["at_us"])
    )
    if not isinstance(found.receipt_hash, str) or not isinstance(found.call_id, str):
        raise ValueError("a receipt is not named as an alert names it")
    return found


def _number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("a number is none")
    return value
