"""What the limits of a call take from the store, as the transaction of its intent takes it.

Knows: that a charge becomes a reservation in the bucket of its limit, counted by the policies' own
step; that without room another entry stands in place of the intent: the refusal, or, where nothing
is refused (`default: observe`), the intent that says so.
Must not know: how a bucket's text reads, how entries are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sidecar.model import Decision
from sidecar.policy.budget import Taken, take
from sidecar.policy.terms import Charge
from storage.records import Entry, Full, Reservation, Reservations, Room

#: Gives the entry for a decision that a limit made another of.
Redraft = Callable[[Decision], Entry]


class Claims(NamedTuple):
    """The charges of a call that the store keeps, at a moment by this process; `over(charge, used)`
    is the decision if that one has no room. Pure."""

    charges: Sequence[Charge]
    at_us: int
    over: Callable[[Charge, int], Decision]


def reservations(claims: Claims, redraft: Redraft) -> Reservations:
    """What an intent reserves."""

    def instead(position: int, full: Full) -> Entry:
        return redraft(claims.over(claims.charges[position], full.used))

    wanted = [Reservation(one.limit, one.key, partial(_take, one)) for one in claims.charges]
    return Reservations(wanted, claims.at_us, instead)


def _take(charge: Charge, state: str, at_us: int) -> Room | Full:
    answer = take(charge, state, at_us)
    if isinstance(answer, Taken):
        return Room(answer.state, answer.until_us)
    return Full(answer.used, answer.wait_us)
