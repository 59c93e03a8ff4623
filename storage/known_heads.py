"""The heads this process knows to be durable, and whether the store still has them.

Knows: that a chain only ever grows, so that a receipt which was acknowledged once, or by which this
process went after another had written it, must stand in the store for good: after a restart, after
a reconnect, on a server that took over from another.
A store that ends before it, or has another receipt in its place, was rolled back.
Must not know: where heads are kept between two runs, what a receipt means, the engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from storage.driver import Row, Script, fetch
from storage.errors import StoreCorrupt, StoreError
from storage.records import HeadRow

#: What to do about a head that is not the last receipt, where no file is damaged.
_ON_A_SERVER = (
    "Look who changed the tables on the server, their rows or their row security: rows that a "
    "policy hides are not there. If nobody did, keep a copy of the server's data, then restore a "
    "backup of the server."
)


class Seen(NamedTuple):
    """A receipt that was the last of its chain at some moment; seq 0 and "" before the first."""

    seq: int
    receipt_hash: str

    def __str__(self) -> str:
        return f"{self.seq} ({self.receipt_hash or '-'})"


@dataclass(frozen=True, slots=True)
class LostHead:
    """A receipt that was seen and is not there; `there` is the tenant's head as it stands."""

    tenant_id: str
    seen: Seen
    there: Seen

    def __str__(self) -> str:
        was = f"tenant {self.tenant_id!a}: receipt {self.seen} was recorded"
        if self.there.seq < self.seen.seq:
            return f"{was}, and the store ends at {self.there}"
        return f"{was}, and the store has another one in its place; it ends at {self.there}"


class StoreRolledBack(StoreError):
    """The store does not have what was recorded in it: it is an older or another state."""

    code = "store_rolled_back"
    next_step = (
        "Put the newer store back. If what is missing is lost for good, say so on the record: "
        "`aegis-sidecar store accept-rollback --tenant TENANT --reason TEXT`, for each sidecar "
        "that refuses by its own configuration, and start it again."
    )

    def __init__(self, lost: Sequence[LostHead]) -> None:
        """`lost` is not empty."""
        rest = len(lost) - 1
        more = f"; and {rest} more tenant{'' if rest == 1 else 's'}" if rest > 0 else ""
        super().__init__(f"{lost[0]}{more}")
        self.lost = tuple(lost)


def asked(heads: Mapping[str, Seen]) -> str:
    """The parameter of the statement `heads_not_there`."""
    return json.dumps([[tenant_id, *seen] for tenant_id, seen in sorted(heads.items())])


def lost_among(heads: Mapping[str, Seen], rows: Sequence[Row]) -> list[LostHead]:
    """Those of the heads that do not stand in the store, by tenant; `rows` are the statement's.

    Of a receipt that was archived nothing is left to compare but the cut: its hash tells where
    the cut is at that very receipt; further back the chain is long enough, and no more is known.
    """
    lost = []
    for tenant_id, seq, receipt_hash, hash_there, cut in sorted(rows, key=lambda row: str(row[0])):
        seen, there = heads[tenant_id], Seen(seq or 0, receipt_hash or "")
        is_archived = hash_there is None and cut is not None and there.seq >= seen.seq
        if not (is_archived and _is_below(seen, cut, tenant_id)):
            lost.append(LostHead(tenant_id, seen, there))
    return lost


def check_tail(sql: Mapping[str, str]) -> Script[None]:
    """Raises StoreCorrupt if a tenant's head is not its last receipt."""
    rows = yield from fetch(sql["heads_out_of_step"])
    if not rows:
        return
    error = StoreCorrupt(f"tenant {rows[0][0]!r}: the head at {rows[0][1]} is not the last receipt")
    if "server_state" in sql:
        error.next_step = _ON_A_SERVER
    raise error


def check_heads(sql: Mapping[str, str], heads: Mapping[str, Seen]) -> Script[None]:
    """Raises StoreRolledBack unless every one of the heads stands in the store."""
    if not heads:
        return
    lost = lost_among(heads, (yield from fetch(sql["heads_not_there"], asked(heads))))
    if lost:
        raise StoreRolledBack(lost)


def _is_below(seen: Seen, cut: str, tenant_id: str) -> bool:
    """Whether a receipt lies before a recorded cut, or is the one that was cut at."""
    try:
        value = json.loads(cut)
        at = Seen(int(value["seq"]), str(value["receipt_hash"]))
    except (TypeError, ValueError, KeyError) as error:
        raise StoreCorrupt(f"the cut of tenant {tenant_id!r} cannot be read") from error
    return seen.seq < at.seq or seen == at


class KnownHeads:
    """The newest receipt of each tenant that is known to be durable."""

    def __init__(self) -> None:
        self._heads: dict[str, Seen] = {}

    def all(self) -> dict[str, Seen]:
        """As they are now: a copy."""
        return dict(self._heads)

    def before(self, head: HeadRow) -> dict[str, Seen]:
        """What a head that was read has to go on from: what is known of its tenant, if it is
        shorter; empty if it tells nothing new or nothing was known."""
        known = self._heads.get(head.tenant_id)
        return {head.tenant_id: known} if known is not None and known.seq < head.seq else {}

    def require(self, heads: Mapping[str, HeadRow]) -> None:
        """Raises StoreRolledBack if heads that are about to move stand before what is known."""
        lost = []
        for tenant_id, head in heads.items():
            seen, there = self._heads.get(tenant_id), Seen(head.seq, head.receipt_hash)
            if seen and (there.seq < seen.seq or (there.seq == seen.seq and there != seen)):
                lost.append(LostHead(tenant_id, seen, there))
        if lost:
            raise StoreRolledBack(lost)

    def learn(self, heads: Mapping[str, Seen]) -> None:
        """These are durable too. Of two of one tenant the later counts."""
        for tenant_id, seen in heads.items():
            known = self._heads.get(tenant_id)
            if seen.seq and (known is None or known.seq < seen.seq):
                self._heads[tenant_id] = seen

    def note(self, heads: Iterable[HeadRow]) -> None:
        """The heads as a committed batch left them, or as they were read."""
        self.learn({head.tenant_id: Seen(head.seq, head.receipt_hash) for head in heads})
