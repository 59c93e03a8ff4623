"""What contains calls: which are refused, or have to be asked for, whatever the rules say. Pure.

Knows: which calls a containment is about, and what it makes of a decision: it refuses in every mode
(LANGUAGE.md section 2), and never lets anything through that rules refuse. A destination is the
host of an argument that is a URL, read as the policy language reads it (`host`), or the host an
upstream of the configuration leads to. What is no URL by itself (a host in the middle of a text, a
command line, a name that resolves to the same address) is not seen.
Must not know: where containments are kept, who made them, the clock.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from sidecar.model import Decision, Effect, Mode, RuleMatch, ToolCall
from sidecar.policy.cel_functions import host, in_domain
from sidecar.policy.marks import with_few_marks
from sidecar.policy.runs import RunState
from sidecar.policy.terms import ApprovalTerms

#: The code of a call that a containment refuses.
CONTAINED: Final = "contained"
#: In front of a containment's id, where a record names the rule that decided.
RULE_PREFIX: Final = "containment/"
#: The dialect of calls whose action names the operation.
_AUTHORIZE: Final = "authorize"
#: How a URL begins, for whoever takes out ends of lines and what is not to be seen before it.
_BEGINS: Final = re.compile(
    r"[\x00-\x20\s\ufeff]*" + r"[\t\r\n]*".join("http") + r"[\t\r\n]*(?:s[\t\r\n]*)?:",
    re.IGNORECASE,
)
_PASSED_OVER: Final = dict.fromkeys(map(ord, "\t\r\n"))
#: Letters that are not seen, and which a host is read without (UTS 46, "ignored").
_IGNORED: Final = re.compile(
    "[\u00ad\u034f\u180b-\u180f\u200b-\u200d\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
)


class Action(enum.StrEnum):
    """What a containment does. The first three are done to the agent's own standing."""

    FREEZE_AGENT = "freeze-agent"
    QUARANTINE_AGENT = "quarantine-agent"
    REVOKE_AGENT = "revoke-agent"
    BLOCK_TOOL = "block-tool"
    BLOCK_UPSTREAM = "block-upstream"
    BLOCK_DESTINATION = "block-destination"
    BLOCK_RUN = "block-run"
    FORCE_APPROVAL = "force-approval"


class Block(NamedTuple):
    """One containment as decisions see it.

    `action` is None of one that a later version wrote: it bars all it may be about. `agent` is the
    only one it is about, "" for all. `what` is a tool, an upstream, a host or the id
    of a run; "" the agent's run without an id, or all its calls. `until_us` is when it ends by the
    clock that is asked with, `ends_at_us` by the store's, 0 never. `upstreams` are those that lead
    to the destination; `run_started_us` is when the run without an id began.
    """

    containment_id: str
    action: Action | None
    agent: str
    what: str
    until_us: int = 0
    ends_at_us: int = 0
    upstreams: frozenset[str] = frozenset()
    run_started_us: int | None = None

    @property
    def rule_id(self) -> str:
        """As the record of a call names it."""
        return f"{RULE_PREFIX}{self.containment_id}"

    def is_over(self, at_us: int) -> bool:
        """Whether its time has run out; at the boundary it has."""
        return bool(self.until_us) and at_us >= self.until_us

    def concerns(self, call: ToolCall, run: RunState) -> bool:
        """Whether the call, made in this run by an agent it is about, is contained by it."""
        action = self.action
        if action is None:
            return True
        if action is Action.BLOCK_TOOL:
            return self.what in names_of(call)
        if action is Action.BLOCK_UPSTREAM:
            return call.tool.upstream == self.what
        if action is Action.BLOCK_DESTINATION:
            return call.tool.upstream in self.upstreams or leads_to(call.args, self.what)
        if action is Action.BLOCK_RUN:
            if self.what:
                return run.run_id == self.what
            began_us = self.run_started_us
            return not run.run_id and (began_us is None or run.started_us == began_us)
        if action is Action.FORCE_APPROVAL:
            return not call.is_protocol and (not self.what or self.what in names_of(call))
        return False  # an agent's own standing is looked at before


@dataclass(frozen=True, slots=True)
class Contained:
    """All that one agent's calls are held to; there is none of an agent that nothing holds."""

    blocks: tuple[Block, ...]

    def barring(self, call: ToolCall, run: RunState, at_us: int) -> Block | None:
        """The first that refuses the call, if any does."""
        for one in self.blocks:
            if (
                one.action is not Action.FORCE_APPROVAL
                and not one.is_over(at_us)
                and one.concerns(call, run)
            ):
                return one
        return None

    def asking(self, call: ToolCall, run: RunState, at_us: int) -> Block | None:
        """The first that wants a person's yes for the call, if any does."""
        for one in self.blocks:
            if (
                one.action is Action.FORCE_APPROVAL
                and not one.is_over(at_us)
                and one.concerns(call, run)
            ):
                return one
        return None

    @property
    def reads_run(self) -> bool:
        """Whether it depends on when the agent's run without an id began."""
        return any(one.action is Action.BLOCK_RUN and not one.what for one in self.blocks)

    def applied(self, decision: Decision, call: ToolCall, run: RunState, at_us: int) -> Decision:
        """The decision as it is once all of them have had their say."""
        block = self.barring(call, run, at_us)
        if block is not None:
            return barred_by(block, decision, call)
        if decision.forward:
            block = self.asking(call, run, at_us)
            if block is not None:
                decision = _asked_by(block, decision, call)
        if not decision.reads_run and not run.run_id and self.reads_run:
            decision = replace(decision, reads_run=True)
        return decision


def barred_by(block: Block, decision: Decision, call: ToolCall) -> Decision:
    """The refusal, in every mode. What rules want masked stays masked in its record."""
    return replace(
        decision,
        effect=Effect.DENY,
        code=CONTAINED,
        reason=_reason(block, call),
        rule_id=block.rule_id,
        rule_hash=None,
        mode=Mode.ENFORCE,
        matches=(RuleMatch(block.rule_id, "", Effect.DENY), *decision.matches),
        approvals=(),
        charges=(),
        wording=None,
        approver=None,
    )


def _asked_by(block: Block, decision: Decision, call: ToolCall) -> Decision:
    """What would go ahead waits for a yes; what rules ask for beside it has to be given too."""
    return replace(
        decision,
        effect=Effect.REQUIRE_APPROVAL,
        code="approval_required",
        reason=_reason(block, call),
        rule_id=block.rule_id,
        rule_hash=None,
        mode=Mode.ENFORCE,
        matches=(RuleMatch(block.rule_id, "", Effect.REQUIRE_APPROVAL), *decision.matches),
        approvals=(*decision.approvals, ApprovalTerms(rule_id=block.rule_id)),
        wording=None,
    )


def _reason(block: Block, call: ToolCall) -> str:
    """For the caller: what is contained, and the id by which the operator finds why."""
    whose = f" for {block.agent}" if block.agent else ""
    what: str = {
        None: "a later version of the sidecar contained something",
        Action.BLOCK_TOOL: f"{block.what} is blocked{whose}",
        Action.BLOCK_UPSTREAM: f"the upstream {block.what} is blocked{whose}",
        Action.BLOCK_DESTINATION: f"the destination {block.what} is blocked{whose}",
        Action.BLOCK_RUN: "this run of the agent is blocked",
        Action.FORCE_APPROVAL: f"{call.tool.name} wants a person's yes for now",
    }[block.action]
    until = f", until {time_text(block.ends_at_us)}" if block.ends_at_us else ""
    return f"{what} (containment {block.containment_id}{until})"


def time_text(at_us: int) -> str:
    """A time as people read it."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")


# -- what a call is about --------------------------------------------------------------------


def names_of(call: ToolCall) -> tuple[str, ...]:
    """The names of the call's tool: that of the catalogue, and the one the caller used where the
    catalogue does not know it."""
    tool = call.tool
    if tool.declared:
        return (tool.name,)
    names = [tool.name]
    if call.called is not None:
        names += [call.called, f"{tool.upstream}/{call.called}"]
    if call.dialect == _AUTHORIZE:
        names.append(f"{tool.upstream}/{call.action}")
    return tuple(names)


def host_of(url: str) -> str:
    """The host of a plain http(s) URL; "" of anything else."""
    try:
        return host(url)
    except ValueError:
        return ""


def hosts_in(args: Mapping[str, Any]) -> list[str]:
    """The hosts of all arguments that are URLs, each once, in their order."""
    found = (host_of(text) for text in _urls(args))
    return list(dict.fromkeys(name for name in found if name))


def leads_to(args: Mapping[str, Any], destination: str) -> bool:
    """Whether an argument is a URL of that host, or of one below it. A URL that is written oddly
    (user info, escapes, blanks, other letters) counts if the host's name stands anywhere in it, as
    whoever follows it may read it."""
    for text in _urls(args):
        name = host_of(text)
        if in_domain(name, destination) if name else destination in _folded(text):
            return True
    return False


def _folded(text: str) -> str:
    """An odd URL as readers that forgive much take it (WHATWG URL, IDNA): escapes and look-alike
    letters are what they stand for, ends of lines are not there."""
    text = with_few_marks(_IGNORED.sub("", unquote(text.translate(_PASSED_OVER))))
    plain = _IGNORED.sub("", unicodedata.normalize("NFKC", text))
    return plain.replace("\u3002", ".").lower()


def _urls(args: Mapping[str, Any]) -> Iterator[str]:
    """Every text among the arguments, at any depth, that begins like an http(s) URL, as
    readers take it that forgive blanks before it and slashes that are missing."""
    left: list[Any] = [args]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if _BEGINS.match(value):
                yield value
        elif isinstance(value, Mapping):
            left.extend(reversed(list(value.values())))
        elif isinstance(value, list | tuple):
            left.extend(reversed(value))
