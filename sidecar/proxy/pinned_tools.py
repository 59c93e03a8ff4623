"""Calls of MCP tools, held against what is pinned of the tool: that it has not drifted, that its
server has announced no others since, that the arguments fit its `inputSchema`.

Knows: that a tool of which nothing is pinned is held against nothing, what an upstream's
`arguments` says, and that `default: observe` refuses nothing of this but counts what does not fit.
Must not know: how pins are kept, what a schema is, lists, rules, HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.ledger.pin_keeper import PinKeeper, PinsUnknown
from sidecar.model import Principal, ToolCall
from sidecar.policy.index import PolicySet


class PinnedTools:
    """One for each way in which calls come."""

    def __init__(self, pins: PinKeeper, upstreams: Mapping[str, Upstream]) -> None:
        self._pins = pins
        #: Where lists are owed; mostly nowhere.
        self._owed = pins.announced.open
        held = {name: one.arguments for name, one in upstreams.items() if one.kind == "mcp"}
        self._unchecked = frozenset(name for name, how in held.items() if how == "unchecked")
        self._strict = frozenset(name for name, how in held.items() if how == "strict")

    def is_fit(self, principal: Principal, call: ToolCall) -> bool:
        """Whether a call is known to be of a tool that is what it was pinned to, with arguments
        that fit; if not, ask further."""
        upstream = call.tool.upstream
        known = self._pins.known(principal.tenant, upstream)
        if known is None or (self._owed and (principal.tenant, upstream) in self._owed):
            return False
        name = call.called or call.tool.operation
        if name in known.drifted:
            return False
        check = known.checks.get(name)
        if check is None:
            return name not in known.marks or upstream in self._unchecked
        if check.left_out and upstream in self._strict:
            return False
        return check.fits(call.args, len(call.body))

    async def require_fit(
        self, policy_set: PolicySet, principal: Principal, call: ToolCall
    ) -> None:
        """Raises Refused for a call of a tool that is not what it was pinned to (`tool_drifted`),
        or of which nobody knows whether it still is (`list_changed`), or with arguments that do not
        fit (`arguments_unfit`) or cannot be held against its schema where they must be
        (`schema_unchecked`)."""
        upstream, name = call.tool.upstream, call.called or call.tool.operation
        refused = None
        owes = (principal.tenant, upstream) in self._owed and policy_set.default != "observe"
        try:
            if name in await self._pins.drifted(principal.tenant, upstream):
                refused = Refused(
                    "tool_drifted",
                    f"the server says something else of {upstream}/{name} than when it was pinned, "
                    "and nobody has accepted that yet",
                )
            elif owes and await self._pins.definition_sha256(principal.tenant, upstream, name):
                refused = Refused(
                    "list_changed",
                    f"{upstream} announced that its tools changed, and its list was not compared "
                    f"with what was pinned since: {name} may be another",
                )
            elif upstream not in self._unchecked:
                refused = await self._misfit(principal, call, upstream, name)
        except PinsUnknown as error:
            raise Refused("store_unavailable", retry_after_s=1, detail=error.code) from error
        if refused is not None and policy_set.default != "observe":
            raise refused

    async def _misfit(
        self, principal: Principal, call: ToolCall, upstream: str, name: str
    ) -> Refused | None:
        """What is wrong with the arguments, as far as it can be known; None if nothing."""
        check = await self._pins.check(principal.tenant, upstream, name)
        if check is None:
            return None
        misfit = "" if check.fits(call.args, len(call.body)) else check.misfit(call.args)
        if misfit:
            self._pins.checks.did_not_fit(upstream)
            return Refused(
                "arguments_unfit",
                f"the arguments do not fit the inputSchema of {upstream}/{name}: {misfit}",
            )
        if check.left_out and upstream in self._strict:
            return Refused(
                "schema_unchecked",
                f"the inputSchema of {upstream}/{name} cannot be checked: {check.left_out}",
            )
        return None
