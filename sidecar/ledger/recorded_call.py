"""From a receipt and the facts beside it back to the nouns of a call: what drafts.py wrote. Pure.

Knows: what of a call was recorded and in which form, and so what is not known of it any more:
masked arguments, header values, the query's values, claims; everything but names where only
digests are kept.
Must not know: stores, rules, what is done with the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from sidecar.model import HttpFacts, Principal, RiskLevel, Tool, ToolCall, TrustLevel
from sidecar.policy.cel_checks import COUNT
from sidecar.policy.facts import FACTS
from sidecar.policy.hidden import ArgumentPath, Hidden, masked_arguments
from sidecar.policy.runs import RunState, beginning
from sidecar.policy.secret_names import MASK
from storage.records import CallFactsRow, ReceiptRow

_RISK: Final = {level.label: level for level in RiskLevel}
_TRUST: Final = {level.label: level for level in TrustLevel}
#: What rules may read and a record tells; the query only where there was none.
_RECORDED: Final = frozenset(
    {
        "args",
        "agent.name",
        "agent.team",
        "agent.environment",
        "agent.risk",
        "tenant.name",
        "http.method",
        "http.path",
        "http.query",
        "http.source_ip",
        "now",
    }
)
_ALWAYS_KNOWN: Final = ("tool.", "trust.", "risk.")
#: What a record tells of the run before the call, where it has `run`.
_OF_THE_RUN: Final = frozenset({"run.trust", "run.labels", "run.calls", "run.started"})
#: Not recorded of any call: header values, claims, and whatever rules come to read.
_NEVER: Final = frozenset({COUNT, *FACTS}) - {
    name for name in FACTS if name in _RECORDED or name.startswith(_ALWAYS_KNOWN)
}
_ALL_ARGUMENTS: Final[frozenset[ArgumentPath]] = frozenset({()})
_NO_ARGUMENTS: Final[frozenset[ArgumentPath]] = frozenset()
_DECISIONS: Final = ("intent", "refusal")
#: The dialect of calls that are not HTTP; what they were asked with stands under it in the facts.
AUTHORIZE: Final = "authorize"


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call that was judged, as far as it is known, and what was decided then. `run` is None
    where its run was not recorded; `of_run` is the id of one that something trusted divides the
    agent's work by, "" without: what a caller names its run stands in `call`."""

    principal: Principal
    call: ToolCall
    at_us: int
    seq: int
    hidden: Hidden
    effect: str
    code: str
    rule_id: str | None
    revision: str
    run: RunState | None = None
    of_run: str = ""


class NotReplayable(Exception):
    """A receipt from which no call can be made; `cause` is a word for counting, the message is for
    people."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def recorded_call(receipt: ReceiptRow, beside: CallFactsRow | None) -> RecordedCall:
    """The call an intent or refusal is about.

    Raises NotReplayable with the cause "unread" (refused before it was judged), "erased" (its
    facts are gone), "protocol" (needs no rule) or "damaged".
    """
    if receipt.kind not in _DECISIONS:
        raise NotReplayable("other", f"a receipt of kind {receipt.kind} tells of no call")
    if receipt.policy_revision is None:
        raise NotReplayable("unread", f"refused before any rule was asked: {receipt.outcome}")
    if beside is None:
        raise NotReplayable("erased", "its facts were erased")
    try:
        facts = orjson.loads(beside.facts)
        args = orjson.loads(beside.arguments) if beside.arguments is not None else None
        masked = _masked(beside.arguments, args)
        if facts["code"] == "protocol":
            raise NotReplayable("protocol", "carries the protocol itself and needs no rule")
        return _recorded(receipt, facts, args, masked)
    except (KeyError, TypeError, ValueError) as error:
        raise NotReplayable("damaged", f"its facts cannot be read: {error}") from error


def _masked(text: str | None, args: Mapping[str, Any] | None) -> frozenset[ArgumentPath]:
    """The arguments that are not known; looked for only where the text holds a mask at all."""
    if text is None or args is None:
        return _ALL_ARGUMENTS
    return masked_arguments(args) if MASK in text else _NO_ARGUMENTS


def _recorded(
    receipt: ReceiptRow,
    facts: Mapping[str, Any],
    args: Mapping[str, Any] | None,
    masked: frozenset[ArgumentPath],
) -> RecordedCall:
    path = facts.get("path")
    hidden = set(_NEVER)
    hidden |= {"http.path"} if path is None or MASK in path else set()
    hidden |= {"http.query"} if facts.get("query") else set()
    run = _run(facts["run"], _TRUST[str(receipt.source_trust)]) if "run" in facts else None
    hidden -= _OF_THE_RUN if run is not None else frozenset()
    principal = Principal(
        receipt.tenant_id,
        str(receipt.agent_id),
        facts["team"],
        facts["environment"],
        _RISK[facts["agent_risk"]],
        _TRUST[str(receipt.source_trust)],
        receipt.user_id,
    )
    upstream, _, operation = str(receipt.tool).partition("/")
    tool = Tool(
        upstream,
        operation,
        facts["mutates"],
        _RISK[facts["risk"]],
        tuple(facts["labels"]),
        _TRUST[facts["returns"]],
        facts["declared"],
    )
    call = ToolCall(
        call_id=str(receipt.call_id),
        tool=tool,
        action=str(receipt.action),
        args=args if args is not None else {},
        http=HttpFacts(facts["method"], path or "", "", facts["source_ip"], {}),
        target="",
        headers=(),
        body=b"",
        dialect=_dialect(receipt, facts),
        run_id=receipt.run_id,
        trace_id=receipt.trace_id,
        called=facts.get("called"),
        beside=facts.get("mcp") or facts.get(AUTHORIZE),
    )
    return RecordedCall(
        principal,
        call,
        receipt.ts_us,
        receipt.seq,
        Hidden(frozenset(hidden), masked),
        str(receipt.decision),
        facts["code"],
        receipt.rule_id,
        str(receipt.policy_revision),
        run,
        str(facts.get("of_run", "")),
    )


def _dialect(receipt: ReceiptRow, facts: Mapping[str, Any]) -> str:
    if AUTHORIZE in facts:
        return AUTHORIZE
    return "rest" if receipt.action == facts["method"] else "mcp"


def _run(said: Mapping[str, Any] | None, starts_with: TrustLevel) -> RunState:
    """The run before the call, as `{trust, labels, calls, started_us}`, with `lowered` if a call
    had lowered its trust; null of one that began."""
    if said is None:
        return beginning(starts_with)
    lowered_by, lowered_in, lowered_at_us = said.get("lowered", ("", "", 0))
    return RunState(
        _TRUST[said["trust"]],
        frozenset(said["labels"]),
        said["calls"],
        said["started_us"],
        lowered_by=lowered_by,
        lowered_in=lowered_in,
        lowered_at_us=lowered_at_us,
    )
