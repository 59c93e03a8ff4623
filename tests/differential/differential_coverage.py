"""Which classes of cases a run went through, so that it cannot agree about nothing.

Knows: how a case is named by what it showed. Must not know: whether the two sides agreed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from differential_compare import Compared, Pair
from generated_rules import NARROWING
from generated_vocabulary import LONG
from twin import Answer
from twin_catalogue import Facts, as_list
from twin_tree import KINDS, nodes
from twin_world import Call

#: A class that occurs less often in 20,000 cases shows nothing.
EXPECTED_MIN = 20
EFFECTS = ("allow", "require_approval", "deny", None)
ANSWERS = (
    "allow policy_allow", "require_approval approval_required", "deny policy_deny",
    "deny condition_error", "deny default_deny",
)  # fmt: skip
EXPECTED = (
    "allow policy_allow enforce", "deny obligations_conflict enforce",
    *(f"{answer} {mode}" for answer in ANSWERS[1:] for mode in ("enforce", "observe")),
    *(f"matched {effect} {mode}" for effect in EFFECTS for mode in ("enforce", "shadow")),
    "failed enforce", "failed shadow", "several failed", "failed beside a deny that matched",
    "failed in a limit", "no rule matched", "shadow would be stricter", "shadow would be looser",
    "reads the run", "does not read the run", "first of a run", "in a run",
    "tool declared", "unknown undeclared", "method declared", "method undeclared",
    "tool allowed", "unknown allowed", "method allowed",
    "obligation redact.request", "obligation redact.response", "obligation max_response",
    "obligation idempotency_key", "obligation add_labels", "obligation headers set",
    "obligation headers removed", "several approvals", "approval approvers", "approval quorum",
    "approval expires", "approval hold", "charge of a call", "charge of a sum",
    "charge of a fraction", "charge shared", "charge beside an approval", "much to read",
    *(f"limit per {per}" for per in ("agent", "team", "tenant", "run", "tool", "args")),
    "run trust", "run labels",
)  # fmt: skip
KEYS = (*NARROWING, "tenants", "outside", "except", "mutates", "labels", "risk")


class Coverage:
    """Counts classes over the cases of many sets."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self._of_rules: dict[str, dict[str, set[str]]] = {}

    def begin(self, pair: Pair) -> None:
        """Another set: what its rules show when they match, and when they fail."""
        self._of_rules = {
            f"{policy['policy']}/{rule['id']}": {
                "matched": {*_of_keys(rule), *_of_condition(rule, "matched")},
                "failed": set(_of_condition(rule, "failed")),
            }
            for policy in pair.world.policies
            for rule in policy["rules"]
        }

    def missing(self) -> list[str]:
        """The classes that occurred too seldom, of those that 20,000 cases must go through."""
        wanted = [*EXPECTED, *(f"key {key}" for key in KEYS)]
        short = [name for name in wanted if self.counted[name] < EXPECTED_MIN]
        for kind in KINDS:
            if self.counted[f"{kind} matched"] + self.counted[f"{kind} failed"] < EXPECTED_MIN:
                short.append(f"conditions with {kind}")
        return short

    def add(self, pair: Pair, call: Call, compared: Compared) -> None:
        """One case: each class it falls into is counted once."""
        answer, decision = compared.answer, compared.decision
        classes = {
            *_of_answer(answer),
            *_of_going_ahead(answer),
            *_of_tool(pair, compared.tool, answer),
            "reads the run" if decision.reads_run else "does not read the run",
            "first of a run" if call.run is None else "in a run",
        }
        for name, *_ in answer.matched:
            classes |= self._of_rules[name]["matched"]
        for name, _ in answer.failed:
            classes |= self._of_rules[name]["failed"]
        if not answer.matched and not answer.failed:
            classes.add("no rule matched")
        if any(value in several for several in LONG.values() for value in call.args.values()):
            classes.add("much to read")
        self.counted.update(classes)


def _of_answer(answer: Answer) -> Iterator[str]:
    yield f"{answer.effect} {answer.code} {answer.mode}"
    if answer.would_be is not None and answer.would_be != answer.effect:
        stricter = ("allow", "require_approval", "deny")
        by = stricter.index(answer.would_be) - stricter.index(answer.effect)
        yield "shadow would be stricter" if by > 0 else "shadow would be looser"
    for _, effect, mode in answer.matched:
        yield f"matched {effect} {mode}"
    for _, mode in answer.failed:
        yield f"failed {mode}"
    if answer.code == "policy_deny" and any(mode == "enforce" for _, mode in answer.failed):
        yield "failed beside a deny that matched"
    if answer.failed_limits:
        yield "failed in a limit"
    if sum(mode == "enforce" for _, mode in answer.failed) > 1:
        yield "several failed"


def _of_going_ahead(answer: Answer) -> Iterator[str]:
    yield from (f"obligation {key}" for key in answer.obligations)
    headers = answer.obligations.get("headers", {}).values()
    if headers:
        yield "obligation headers removed" if None in headers else "obligation headers set"
    if len(answer.approvals) > 1:
        yield "several approvals"
    for _, approvers, quorum, expires_us, hold_us in answer.approvals:
        given = (("approvers", approvers), ("quorum", quorum > 1), ("expires", expires_us))
        yield from (f"approval {name}" for name, one in given if one)
        if hold_us:
            yield "approval hold"
    for *_, amount, _, _, is_sum, is_shared in answer.charges:
        yield "charge of a sum" if is_sum else "charge of a call"
        if is_shared:
            yield "charge shared"
        if is_sum and amount % 1_000_000:
            yield "charge of a fraction"
    if answer.charges and answer.effect == "require_approval":
        yield "charge beside an approval"


def _of_tool(pair: Pair, tool: Facts, answer: Answer) -> Iterator[str]:
    declared = tool.operation in pair.world.tools_of(tool.upstream)
    kind = "unknown" if tool.operation == "unknown" else "method" if tool.is_method else "tool"
    yield f"{kind} {'declared' if declared else 'undeclared'}"
    if answer.effect == "allow":
        yield f"{kind} allowed"


def _of_keys(rule: dict[str, Any]) -> Iterator[str]:
    yield from (f"key {key}" for key in KEYS if key in rule)
    yield from (f"run {key}" for key in rule.get("run", {}))
    for limit in as_list(rule.get("limits")):
        for per in as_list(limit.get("per", "agent")):
            yield f"limit per {per.partition('.')[0]}"


def _of_condition(rule: dict[str, Any], outcome: str) -> Iterator[str]:
    if "when" in rule:
        for node in nodes(rule["when"].tree):
            yield f"{node[0]} {outcome}"
