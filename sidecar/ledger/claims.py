"""What a call takes from the store, as the transaction of its intent takes it: room and a yes.

Knows: that a charge becomes a reservation in the bucket of its limit, counted by the policies' own
step; that without room another entry stands in place of the intent: the refusal, or, where nothing
is refused (`default: observe`), the intent that says so. An approval is spent in the same
transaction, or another entry stands in place of the intent.
Must not know: how a bucket's text reads, how entries are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sidecar.model import Decision
from sidecar.policy.budget import Taken, take
from sidecar.policy.terms import Charge
from storage.records import Entry, Full, Reservation, Reservations, Room, Ticket
from storage.standing import ApprovalRow, AuditRow

#: Gives the entry for a decision that a limit made another of.
Redraft = Callable[[Decision], Entry]


class Claims(NamedTuple):
    """The charges of a call that the store keeps, at a moment by this process; `over(charge, used)`
    is the decision if that one has no room. Pure."""

    charges: Sequence[Charge]
    at_us: int
    over: Callable[[Charge, int], Decision]


class Spend(NamedTuple):
    """The approval by which a call goes ahead, and what that makes of it; `without(why)` is the
    decision if it cannot be had. `audit` tells of it if it is spent. Pure."""

    approval_id: str
    at_us: int
    step: Callable[[ApprovalRow | None, int], ApprovalRow | str]
    without: Callable[[str], Decision]
    audit: AuditRow


def take_along(entry: Entry, claims: Claims | None, spend: Spend | None, redraft: Redraft) -> None:
    """Has an intent take its room, and spend its yes and say so. What stands in its place takes and
    spends nothing."""
    if claims is not None:
        entry.reserves = reservations(claims, redraft)
    if spend is not None:
        entry.ticket, entry.audit = ticket(spend, redraft), spend.audit


def ticket(spend: Spend, redraft: Redraft) -> Ticket:
    """What an intent spends."""

    def instead(why: str) -> Entry:
        return redraft(spend.without(why))

    return Ticket(spend.approval_id, spend.at_us, spend.step, instead)


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
