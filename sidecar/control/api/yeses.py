"""What verified receipts tell of calls by a yes that nobody gave, as the API's answers say it.

Knows: the members. Must not know: how it is found (`sidecar.ledger.said_yes`).
"""

from __future__ import annotations

from typing import Any

from sidecar.control.api.route import Shape
from sidecar.ledger.said_yes import SaidYes
from sidecar.ledger.verify import Verdict


class UnsaidShape(Shape):
    """The call of receipt `seq` went ahead by a yes of these people for an approval, and no receipt
    says that they gave it; or (`is_of_other`) it was given to another action, or to another text
    than was asked. The receipts are as the sidecar wrote them, which went by its store: somebody
    wrote to that."""

    seq: int
    approval_id: str
    names: list[str]
    is_of_other: bool


def unsaid(found: SaidYes | Verdict) -> list[dict[str, Any]]:
    """What UnsaidShape says of each, the first ones."""
    return [{**one._asdict(), "names": list(one.names)} for one in found.unsaid]


def unsaid_count(found: SaidYes | Verdict) -> int:
    """Of how many."""
    return found.count if isinstance(found, SaidYes) else found.unsaid_count
