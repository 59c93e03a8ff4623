"""How a call that was recorded ends, by the refusal it met.

Knows: which codes say that the upstream never saw it, and which that its answer was kept back; what
is cut without anybody's fault.
Must not know: how an end is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.errors import Refused
from sidecar.model import OutcomeKind

if TYPE_CHECKING:
    from sidecar.proxy.agent_side import AgentSide

#: Codes after which it is certain that no byte of the call reached the upstream.
NOT_FORWARDED = frozenset({"upstream_unreachable", "upstream_busy"})
#: Codes that say that an answer came and the policies, or that its caller may not call any more,
#: keep it, or the rest of it, from the caller.
_WITHHELD = frozenset(
    {
        "response_too_large", "cannot_redact", "list_unchecked", "answer_unchecked",
        "input_refused", "answers_full", "agent_frozen", "agent_quarantined", "unauthenticated",
        "task_unchecked",
    }
)  # fmt: skip


def ending_by(refused: Refused) -> OutcomeKind:
    """The outcome of a call with an intent."""
    if refused.code in NOT_FORWARDED:
        return OutcomeKind.NOT_FORWARDED
    return OutcomeKind.WITHHELD if refused.code in _WITHHELD else OutcomeKind.UPSTREAM_ERROR


def failing_upstream(exchange: AgentSide, kind: str) -> str:
    """The upstream that a refusal may be a failure of; `kind` is what it speaks.

    "" for a stream on which an MCP server speaks by itself, once it has begun: where nothing is
    said for long it is cut, by us or by what stands on the way, and its client opens another.
    """
    is_listening = kind == "mcp" and exchange.head.method == "GET" and exchange.has_begun
    return "" if is_listening else exchange.head.upstream
