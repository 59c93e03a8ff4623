"""What stays of an approval once its arguments are erased. Pure.

Knows: which approvals are about an agent, a user or a call; that one which still waits, or whose
yes is not spent, is needed as it is; that the words a caller chose go (arguments, path, headers,
what was told of a rule with them in it), and the names that receipts keep too stay.
Must not know: stores, who asks.
"""

from __future__ import annotations

from typing import Final

import orjson

from sidecar.approvals.states import State, read_terms
from sidecar.ledger.recorded_call import AUTHORIZE
from storage.standing import ApprovalRow

ERASED: Final = "(erased)"
_OPEN: Final = frozenset({State.PENDING, State.APPROVED})
#: Members of what was asked that say nothing a caller chose freely.
_KEPT: Final = ("agent", "tool", "method", "rules", "risk", "mutates", "action_sha256", "is_cut")


def is_about(row: ApprovalRow, kind: str, name: str) -> bool:
    """Whether an approval is of that `agent`, for that `user`, or asked for or spent by that
    `call`."""
    if kind == "agent":
        return row.agent_id == name
    if kind == "call":
        return name in (row.call_id, row.spent_by)
    return read_terms(row.terms).user == name


def is_open(row: ApprovalRow) -> bool:
    """Whether somebody may still decide it, or spend its yes."""
    return row.state in _OPEN


def is_erased(row: ApprovalRow) -> bool:
    """Whether nothing is left to erase."""
    return bool(orjson.loads(row.asked).get("is_erased"))


def erased_text(row: ApprovalRow) -> str:
    """What is kept in place of what was asked."""
    asked = orjson.loads(row.asked)
    said = {name: asked[name] for name in _KEPT if name in asked}
    said.update(arguments=ERASED, path=ERASED, headers={}, reason=ERASED)
    said.update(is_escaped=False, is_erased=True)
    if AUTHORIZE in asked:
        own = asked[AUTHORIZE]
        said[AUTHORIZE] = {key: own[key] for key in ("tool", "mutates_state") if key in own}
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
