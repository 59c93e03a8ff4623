"""What sinks are told of approvals: that one is asked for, and how it ended before it was spent.

Knows: what of an approval is told, and that it goes into the transaction of the change itself. A
link by which somebody decides is added when it is sent, for the person that the sink stands for: in
the store it would be read by others.
Must not know: how a sink is reached, how a link is signed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.approvals.entries import ASK
from sidecar.approvals.links import PATH as LINK_PATH
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.approvals.states import State, read_terms, read_votes
from sidecar.approvals.words import action_hash_of
from sidecar.identity.approvers import groups_of_approver
from sidecar.soc.deliveries import APPROVAL_SEVERITY, Ids, Kind, Told, deliveries_of

if TYPE_CHECKING:
    from sidecar.approvals.service import Approvals
    from sidecar.config.model import Config
    from storage.standing import ApprovalRow
    from storage.watch_rows import DeliveryRow

#: Where people look at one: the console's page.
PAGE: Final = "/console/approvals"
#: How one may end that was never approved, or be approved: that is told.
_ENDS: Final = frozenset(State) - {State.PENDING, State.SPENT}


class ApprovalNews:
    """See `approvals.changes.Tells`. `ring` is called when something was put."""

    def __init__(
        self, told: Sequence[Told], now_us: Callable[[], int], ring: Callable[[], None]
    ) -> None:
        self._told = told
        self._now_us = now_us
        self._ring = ring

    def rows(
        self, verb: str, row: ApprovalRow, after: ApprovalRow | None, actor: str, reason: str
    ) -> Sequence[DeliveryRow]:
        """See `Tells.rows`."""
        kind = _kind(verb, row, after)
        if kind is None or not self._told:
            return ()
        now = row if after is None else after
        body = _requested(now) if kind is Kind.APPROVAL_REQUESTED else _decided(now, actor, reason)
        ids = Ids(now.tenant_id, now.approval_id, now.version)
        return deliveries_of(kind, body, APPROVAL_SEVERITY, self._told, ids, self._now_us())

    def recorded(self) -> None:
        """See `Tells.recorded`."""
        self._ring()


def _kind(verb: str, row: ApprovalRow, after: ApprovalRow | None) -> Kind | None:
    if verb == ASK:
        return Kind.APPROVAL_REQUESTED
    if after is None or row.state != State.PENDING or after.state not in _ENDS:
        return None
    return Kind.APPROVAL_DECIDED


def _requested(row: ApprovalRow) -> Mapping[str, Any]:
    asked, terms = orjson.loads(row.asked), read_terms(row.terms)
    return {
        **asked,  # all that an approver reads elsewhere too
        **_of(row),
        **({"action_hash": hashed} if (hashed := action_hash_of(row)) is not None else {}),
        "user": terms.user,
        "asked_sha256": terms.asked_sha256,
        "terms": [
            {"rule": term.rule_id, "approvers": list(term.approvers), "quorum": term.quorum}
            for term in terms.terms
        ],
    }


def _decided(row: ApprovalRow, actor: str, reason: str) -> Mapping[str, Any]:
    votes = [
        {
            "actor": vote.actor,
            "vote": "approve" if vote.is_yes else "reject",
            "reason": vote.reason,
        }
        for vote in read_votes(row.votes)
    ]
    return {**_of(row), "actor": actor, "reason": reason, "votes": votes}


def _of(row: ApprovalRow) -> Mapping[str, Any]:
    return {
        "state": row.state,
        "agent": row.agent_id,
        "tool": row.tool,
        "call_id": row.call_id,
        "action_sha256": row.action_sha256,
    }


def approval_addition(
    approvals: Approvals, config: Config, url: str
) -> Callable[[DeliveryRow], Awaitable[Mapping[str, Any]]]:
    """What is added to a request when it is sent: until when and where it can be decided, by
    programs and by people, and for the sink's approver the signed link. `url` is the base of links,
    "" where nobody answers."""

    async def addition(row: DeliveryRow) -> Mapping[str, Any]:
        if row.kind != Kind.APPROVAL_REQUESTED:
            return {}
        approval_id = orjson.loads(row.body)["approval"]["id"]
        try:
            now = await approvals.deciding.show(row.tenant_id, approval_id)
        except ApprovalRefused:
            return {}
        more: dict[str, Any] = {"state": now.state, "expires_at_us": now.expires_at_us}
        if not url:
            return more
        more["approval_url"] = f"{url}/v1/approvals/{approval_id}"
        more["console_url"] = f"{url}{PAGE}/{approval_id}"
        sink = config.sinks.get(row.sink)
        people = config.tenants[row.tenant_id].people if row.tenant_id in config.tenants else {}
        if sink is None or now.state != State.PENDING:
            return more
        # He may be an approver of another tenant, and one who only looks of this.
        groups = groups_of_approver(sink.approver, people, ())
        if groups is not None:
            link = await approvals.links.made(now, sink.approver, sorted(groups))
            more["decision_url"] = f"{url}{LINK_PATH}/{link}"
        return more

    return addition
