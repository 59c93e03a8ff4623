"""What is said of calls by a yes that nobody gave on record, and of rows that nobody left so.

Knows: the words. None of it makes a chain hold or not: the receipts are as the sidecar wrote them,
and it went by what stood in its store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.ledger.said_yes import Unsaid
    from sidecar.ledger.stored_chain import ChainReport
    from sidecar.ledger.verify import Verdict


#: Those that are told one by one; of more the number is told.
STRAYS_SHOWN_MAX: Final = 20


def unsaid_text(found: Verdict | ChainReport) -> str:
    """Lines, each with its end; "" if every yes is on record."""
    lines = [
        f"receipt {one.seq}: the call went ahead by a yes of {', '.join(one.names)!a} for approval "
        f"{one.approval_id!a}, and {_fault(one)}: was the store written to?"
        for one in found.unsaid
    ]
    if found.unsaid_count > len(found.unsaid):
        lines.append(f"{found.unsaid_count} calls by a yes that is not on record in all")
    return "".join(f"{line}\n" for line in lines)


def _fault(one: Unsaid) -> str:
    if one.is_of_other:
        return "not this action, or not the text that was asked, is what it was given to"
    return "no receipt says that it was given"


def strays_text(found: Sequence[str] | None) -> str:
    """Lines, each with its end, of what stands in the store otherwise than on record; None if that
    could not be told."""
    if found is None:
        return "whether agents, keys and the rest stand as recorded cannot be told: they changed\n"
    lines = [f"{one}: was the store written to?" for one in found[:STRAYS_SHOWN_MAX]]
    if len(found) > len(lines):
        lines.append(f"{len(found)} that stand otherwise than on record in all")
    return "".join(f"{line}\n" for line in lines)
