"""Whether a change of state, as an audit row tells it, is what its receipt commits to. Pure.

Knows: that the row stands beside a receipt of the same action, by the same person and at the same
time; that what the receipt commits to repeats actor, subject, reason, before and after, each kind
of change those of them that it has. Where that was erased the receipt's own keys are all that is
left, and the row may say more than anything shows.
Must not know: where rows come from, whether the receipt holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sidecar.ledger.boot_entries import ALIVE, START, STOP
from sidecar.ledger.care import ROTATE_KEY
from sidecar.ledger.pin_entries import FORGOTTEN, PIN_CHANGES
from sidecar.ledger.rollback import ROLLBACK
from storage.standing import AuditRow

Line = Mapping[str, Any]

#: A call goes ahead by a yes; a person tried, for an agent, one that was not given to it; somebody
#: ended a run.
SPEND: Final = "approval.spend"
NOT_SPENT: Final = "approval.spend_refused"
RUN_RESET: Final = "run.reset"
#: Kinds of receipts that are about a change of state and nothing else.
_CHANGES: Final = frozenset({"control", "approval"})
#: What receipts tell by themselves, in words and as JSON.
_IN_WORDS: Final = frozenset({ROTATE_KEY, ROLLBACK})
_IN_JSON: Final = frozenset({START, STOP})
#: By kind of a call's receipt, what a row beside it tells.
_BESIDE_CALLS: Final[Mapping[Any, str]] = {"intent": SPEND, "refusal": NOT_SPENT}
_PINS: Final = frozenset(f"tools.{what}" for what in PIN_CHANGES)
#: What an approval's row says more of a vote than its receipt commits to.
_VOTES: Final[Mapping[Any, str]] = {True: "approve", False: "reject"}


def is_change(kind: str, action: str | None) -> bool:
    """Whether an audit row is due beside such a receipt."""
    return kind in _CHANGES and action != ALIVE


def row_fault(row: AuditRow, line: Line, after_us: int) -> str | None:
    """What an audit row says otherwise than its receipt, given as the line of an export with what
    stands beside it; `after_us` is the time of the receipt before. None if nothing."""
    if line["kind"] not in _CHANGES:
        return _fault_beside_call(row, line)
    if row.action != line["action"]:
        return "its action"
    if line["approver"] is not None and row.actor != line["approver"]:
        return "its actor"
    # A receipt has the time of its row, unless the clock had gone back before the last one.
    if row.at_us > line["ts_us"] or (row.at_us != line["ts_us"] > after_us):
        return "its time"
    if row.action in _IN_WORDS:
        return _fault_in_words(row, str(line["resource"]))
    if row.action in _IN_JSON:
        return _fault_in_json(row, _json(line["resource"]))
    return _fault_by_keys(row, line) or _fault_by_arguments(row, line)


def _fault_by_keys(row: AuditRow, line: Line) -> str | None:
    """Against the receipt's own keys, which stay when what it commits to is erased."""
    if line["kind"] == "approval":
        return "its subject" if row.subject != line["approval_id"] else None
    if row.action == RUN_RESET:
        return _fault_of_run(row, line)
    if row.action in _PINS:
        return "its subject" if row.subject != f"upstream:{line['upstream']}" else None
    return None


def _fault_by_arguments(row: AuditRow, line: Line) -> str | None:
    said = _json(line.get("arguments"))
    if not isinstance(said, dict):
        return None  # Erased, or told in words of its own.
    told = {"actor": row.actor, "subject": row.subject, "reason": row.reason}
    for name, value in told.items():
        if name in said and said[name] != value:
            return f"its {name}"
    if line["kind"] == "approval":
        return _fault_of_approval(row, said)
    return _fault_of_pins(row, said) if row.action in _PINS else _fault_of(row, said)


def _fault_beside_call(row: AuditRow, line: Line) -> str | None:
    """Of a yes that a call spends, or tried to: the receipt is the call's."""
    if row.subject != line["approval_id"]:
        return "its subject"
    if row.action != _BESIDE_CALLS.get(line["kind"]):
        return "its action"
    if row.at_us > line["ts_us"]:
        return "its time"
    return _fault_of_spending(row, line) if row.action == SPEND else None


def _fault_of_spending(row: AuditRow, line: Line) -> str | None:
    """It is the agent's deed, unless what the rules saw says who did it for the agent; by the yes
    of those whom the receipt names."""
    facts = _json(line.get("facts"))
    if isinstance(facts, dict) and facts:
        asked = facts.get("authorize")
        person = asked.get("spent_for_by") if isinstance(asked, dict) else None
        if row.actor != (person or f"agent:{line['agent_id']}"):
            return "its actor"
    after = _json(row.after_state)
    if not isinstance(after, dict) or after.get("spent_by") != line["call_id"]:
        return "what was after"
    if after.get("state") != "spent" or not _is_by(after, line["approver"]):
        return "what was after"
    before = _json(row.before_state)
    if not isinstance(before, dict) or before.get("state") != "approved":
        return "what was before"
    return None if _is_by(before, line["approver"]) else "what was before"


def _is_by(state: Line, approver: str | None) -> bool:
    """Whether those who said yes are they whom a receipt names, if it names any."""
    votes = _standing(state)[1] or ()
    names = {str(vote["actor"]) for vote in votes if vote["vote"] == _VOTES[True]}
    return approver is None or names == set(approver.split(","))


def _fault_of_run(row: AuditRow, line: Line) -> str | None:
    """Of a run that somebody ended: nothing is left of it."""
    run = f"/{line['run_id']}" if line["run_id"] is not None else ""
    if row.subject != f"run:{line['agent_id']}{run}":
        return "its subject"
    return "what was after" if row.after_state else None


def _fault_of_pins(row: AuditRow, said: Line) -> str | None:
    """Of tools: the receipt commits to their hashes, by what became of each."""
    left: dict[Any, Any] = {}
    for what in PIN_CHANGES:
        if isinstance(hashes := said.get(what), dict):
            left |= dict.fromkeys(hashes) if what == FORGOTTEN else hashes
    if _json(row.after_state) != left:
        return "what was after"
    was = said.get("before")
    return "what was before" if (_json(row.before_state) or None) != (was or None) else None


def _fault_of(row: AuditRow, said: Line) -> str | None:
    if "after" in said and said["after"] != _json(row.after_state):
        return "what was after"
    if "before" in said:
        # An ended run is told as the text that it was.
        is_text = isinstance(said["before"], str)
        if said["before"] != (row.before_state if is_text else _json(row.before_state)):
            return "what was before"
    return None


def _fault_of_approval(row: AuditRow, said: Line) -> str | None:
    before, after = _json(row.before_state), _json(row.after_state)
    if "link" in said:
        if after != said["link"]:
            return "what was after"
    elif after is not None and _standing(after) != (said.get("state"), said.get("votes")):
        return "what was after"
    was = said.get("before")
    if (None if before is None else _standing(before)) != (None if was is None else _standing(was)):
        return "what was before"
    return None


def _standing(state: Any) -> tuple[Any, Any]:
    """State and votes, each by whom and what, as a receipt commits to them."""
    if not isinstance(state, dict):
        return None, None
    votes = [
        {"actor": one.get("actor"), "vote": one.get("vote", _VOTES.get(one.get("is_yes")))}
        for one in state.get("votes", ())
        if isinstance(one, dict)
    ]
    return state.get("state"), votes


def _fault_in_words(row: AuditRow, words: str) -> str | None:
    """Of keys and heads: each text of the row stands in the receipt's own words."""
    for name, text in (("before", row.before_state), ("after", row.after_state)):
        state = _json(text)
        if not isinstance(state, dict):
            return f"what was {name}"
        if any(isinstance(one, str) and one not in words for one in state.values()):
            return f"what was {name}"
    return None


def _fault_in_json(row: AuditRow, said: Any) -> str | None:
    """Of a boot: the receipt says itself what the row says, but for the node."""
    after = _json(row.after_state)
    if not isinstance(said, dict) or not isinstance(after, dict):
        return "what was after"
    if any(name in said and said[name] != value for name, value in after.items()):
        return "what was after"
    return "what was before" if _json(row.before_state) != said.get("before") else None


def _json(text: Any) -> Any:
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return text
