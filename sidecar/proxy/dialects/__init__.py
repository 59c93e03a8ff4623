"""One file per protocol: how a request becomes a ToolCall, and how a refusal is said.

Knows: the literal registry, by the `kind` of an upstream. A new protocol is one file and one line.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.config.model import Limits, Upstream
from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.index import PolicySet
from sidecar.proxy.dialects.held import HeldReply
from sidecar.proxy.dialects.mcp import McpDialect
from sidecar.proxy.dialects.reply import WholeReply
from sidecar.proxy.dialects.rest import RestDialect
from sidecar.proxy.head import RequestHead


class Dialect(Protocol):
    """What the pipeline asks of a protocol."""

    def read_call(
        self,
        head: RequestHead,
        body: bytes,
        upstream: Upstream,
        policy_set: PolicySet,
        limits: Limits,
        call_id: str,
    ) -> ToolCall:
        """The one call in this request; raises Refused."""

    def refusal(
        self,
        refused: Refused,
        call_id: str,
        call: ToolCall | None,
        head: RequestHead | None = None,
    ) -> WholeReply:
        """The refusal in the protocol's own words; `call` as far as it was read."""

    def held(self, call: ToolCall) -> HeldReply | None:
        """How the agent is told that the call waits; None if he cannot hear it before its reply."""


DIALECTS: dict[str, Dialect] = {"rest": RestDialect(), "mcp": McpDialect()}
