"""From a change of an approval to the entry that records it: receipt, facts, audit row, ticket.

Knows: that a receipt of kind `approval` tells of every change, and of each link by which somebody
may make one; that it names who acts, and commits (under a salt) to what was asked, to the exact
action, to what stood before and to what was said; that the row changes in its transaction or not.
A yes is spent by the receipt of a call, beside which only an audit row tells of it.
Must not know: queues, when an approval changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.approvals.states import State, Step, read_terms, read_votes
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.commitment import NONCE_BYTES, committed
from sidecar.ledger.receipt import blank_receipt
from storage.records import Entry, Ticket
from storage.standing import ApprovalRow, AuditRow
from storage.watch_rows import DeliveryRow

if TYPE_CHECKING:
    from sidecar.clock import Clock

#: What can happen to one, as it follows `approval.` in receipts and audit rows.
ASK: Final = "ask"
APPROVE: Final = "approve"
REJECT: Final = "reject"
EXPIRE: Final = "expire"
SUPERSEDE: Final = "supersede"
WITHDRAW: Final = "withdraw"
#: A link was made by which a named person decides: that changes nothing yet.
LINK: Final = "link"
#: A call went ahead by it: in audit rows alone, for the receipt is the call's.
SPEND: Final = "spend"
#: Who acts where nobody does: time, or a change of the rules.
SIDECAR: Final = "sidecar"
#: What people do: the receipt names who did.
_BY_PEOPLE: Final = frozenset({APPROVE, REJECT, WITHDRAW, LINK})


def approval_entry(
    clock: Clock,
    row: ApprovalRow,
    verb: str,
    step: Step,
    *,
    actor: str,
    after: ApprovalRow | None,
    reason: str = "",
    puts: Sequence[DeliveryRow] = (),
) -> Entry:
    """The entry by which `step` becomes true, or nothing. `row` is the approval as it was looked
    at (of a new one its draft), `after` as it will be if it still stands so; `puts` tell others of
    it, if it does."""
    now = row if after is None else after
    before = None if verb == ASK else _told(row)
    said = {"before": before, "state": now.state, "votes": _told(now)["votes"]}
    texts = ("" if before is None else _state(row), "" if after is None else _state(after))
    entry = _entry(clock, row, verb, said, texts, actor, reason)
    entry.ticket = Ticket(row.approval_id, clock.steady_us(), step, lambda _why: None)
    entry.puts = puts
    return entry


def link_entry(
    clock: Clock,
    row: ApprovalRow,
    *,
    actor: str,
    name: str,
    groups: Sequence[str],
    until_us: int,
) -> Entry:
    """The entry that tells of a link made by `actor`, by which the person `name` of these groups
    decides until then."""
    link = {"for": name, "groups": list(groups), "until_us": until_us}
    said = {"before": _told(row), "state": row.state, "link": link}
    after = orjson.dumps(link, option=orjson.OPT_SORT_KEYS).decode()
    return _entry(clock, row, LINK, said, (_state(row), after), actor, "")


def spend_audit(row: ApprovalRow, *, actor: str, call_id: str, at_us: int) -> AuditRow:
    """What stands beside the intent of the call that spends a yes; `actor` is the agent, or who
    acts for it. An approved row takes no more votes, so that it is known beforehand."""
    before = row._replace(state=State.APPROVED.value)
    after = row._replace(state=State.SPENT.value, spent_by=call_id)
    return AuditRow(
        row.tenant_id, 0, at_us, actor, f"approval.{SPEND}", row.approval_id,
        _state(before), _state(after), "",
    )  # fmt: skip


def _entry(
    clock: Clock,
    row: ApprovalRow,
    verb: str,
    said: Mapping[str, Any],
    texts: tuple[str, str],
    actor: str,
    reason: str,
) -> Entry:
    """Receipt, facts and audit row; `texts` are the states before and after."""
    action = f"approval.{verb}"
    at_us, nonce = clock.now_us(), clock.random_bytes(NONCE_BYTES)
    arguments = canonical_arguments(
        {
            "action_sha256": row.action_sha256,
            "asked_sha256": read_terms(row.terms).asked_sha256,
            "actor": actor,
            "reason": reason,
            **said,
        }
    )
    commitment, facts = committed(row.tenant_id, nonce, arguments)
    upstream = row.tool.partition("/")[0]
    receipt = blank_receipt(
        row.tenant_id,
        "approval",
        event_id=clock.new_id(),
        call_id=row.call_id,
        ts_us=at_us,
        agent_id=row.agent_id,
    )._replace(
        action=action,
        upstream=upstream,
        tool=row.tool,
        approval_id=row.approval_id,
        approver=actor if verb in _BY_PEOPLE else None,
        args_commitment=commitment,
    )
    return Entry(
        receipt,
        facts,
        audit=AuditRow(row.tenant_id, 0, at_us, actor, action, row.approval_id, *texts, reason),
    )


def _told(row: ApprovalRow) -> dict[str, Any]:
    """How it stands, and who said what."""
    votes = [
        {"actor": vote.actor, "vote": APPROVE if vote.is_yes else REJECT}
        for vote in read_votes(row.votes)
    ]
    return {"state": row.state, "votes": votes}


def _state(row: ApprovalRow) -> str:
    said: dict[str, Any] = {"state": row.state, "votes": orjson.loads(row.votes)}
    if row.spent_by:
        said["spent_by"] = row.spent_by
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
