"""What is known of one request so far, filled from left to right as it goes its way.

Must not know: what fills it, or what follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.config.model import Upstream
from sidecar.ledger.recorder import Intent
from sidecar.model import Principal, ToolCall
from sidecar.policy.runs import RunState
from sidecar.policy.terms import Obligations


@dataclass(slots=True)
class Visit:
    """What is known of one request so far; filled from left to right as it goes its way."""

    call_id: str
    started_ns: int
    upstream: Upstream | None = None
    principal: Principal | None = None
    call: ToolCall | None = None
    run: RunState | None = None
    obligations: Obligations | None = None
    intent: Intent | None = None
    forwarding_ns: int = 0
    answered_ns: int = 0
    was_whole: bool = False
    http_status: int | None = None
