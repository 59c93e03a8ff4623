"""Whether a caller's calls of a tool can ever go ahead, and whether what they give back might be
masked: what a list of tools need not show, and whether a client can have been asked what it says it
answers.

Knows: that the answer must be sound and need not be complete. "Never" is said only where tool and
caller alone settle it: a deny that always applies, rules that always want different things of one
header, or no rule at all that could let a call through. Arguments, the hour, the address, the run
and approvals are left open.
Must not know: lists, protocols, how a tool is hidden.
"""

from __future__ import annotations

from typing import Final

from sidecar.model import Effect, Principal, Tool
from sidecar.policy.index import Applicable, PolicySet
from sidecar.policy.rule import Rule

#: Of a tool of MCP: calls come by POST, whatever a rule says of other methods.
MCP_CALL_METHOD: Final = "POST"

#: What MCP servers ask of their clients; after a task, only where it began with one of these.
ASKED: Final = ("sampling/createMessage", "elicitation/create", "roots/list")

_LETS_THROUGH: Final = (Effect.ALLOW, Effect.REQUIRE_APPROVAL)


def may_go_ahead(policy_set: PolicySet, principal: Principal, tool: Tool, method: str = "") -> bool:
    """False if every call of the caller to the tool would be refused, whatever is in it.

    `method` is the HTTP method all its calls have, "" if they may have any. Under `observe`
    nothing is refused.
    """
    if policy_set.default == "observe":
        return True
    applicable = policy_set.plan(tool).applicable(principal)
    settled = applicable.conclude(()).decision
    if settled.effect is not Effect.DENY:
        return True
    # What the settled rules refuse together stays refused, whichever others match beside them.
    return settled.code == "default_deny" and _could_match(applicable, method)


def may_be_masked(
    policy_set: PolicySet, principal: Principal, tool: Tool, method: str = ""
) -> bool:
    """Whether some call of the caller to the tool might be given back with values masked. Under
    `observe` nothing is."""
    if policy_set.default == "observe":
        return False
    applicable = policy_set.plan(tool).applicable(principal)
    rules = (*applicable.settled, *[one.rule for one in applicable.open_rules])
    return any(
        rule.obligations is not None
        and bool(rule.obligations.response)
        and not rule.is_shadow
        and _meets(rule, method)
        for rule in rules
    )


def may_be_asked(policy_set: PolicySet, principal: Principal, upstream: str) -> bool:
    """False if whatever the upstream's server asks of the caller would be refused: then the caller
    has nothing to answer."""
    tools = [policy_set.catalogue.mcp_method(upstream, method).tool for method in ASKED]
    return any(may_go_ahead(policy_set, principal, tool) for tool in tools)


def _could_match(applicable: Applicable, method: str) -> bool:
    """Whether a rule that the call settles could let one through."""
    return any(
        one.rule.effect in _LETS_THROUGH and not one.rule.is_shadow and _meets(one.rule, method)
        for one in applicable.open_rules
    )


def _meets(rule: Rule, method: str) -> bool:
    return not method or not rule.methods or method in rule.methods
