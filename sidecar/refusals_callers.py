"""What callers meet who are not known, or may not call as they stand; part of the one table.

Knows: code, HTTP status, title, what the caller can do.
Must not know: how callers are known.
"""

from __future__ import annotations

from typing import Final

from sidecar.refusal_kinds import RefusalKind

OF_CALLERS: Final = (
    RefusalKind(
        "unauthenticated",
        401,
        "The caller is not known",
        "Ask the operator which credential this sidecar expects.",
    ),
    RefusalKind(
        "too_many_failures",
        429,
        "Too many credentials from this address were wrong",
        "Wait as long as Retry-After says, then send a credential that this sidecar knows.",
    ),
    RefusalKind(
        "agent_frozen",
        403,
        "This agent is frozen",
        "Ask the operator, who sees why in `agents show` and ends it with `agents unfreeze`.",
    ),
    RefusalKind(
        "agent_quarantined",
        403,
        "This agent is in quarantine",
        "Ask the operator, who sees why in `agents show` and ends it with `agents restore`.",
    ),
    RefusalKind(
        "contained",
        403,
        "This call is contained",
        "Do not repeat it. Ask the operator, who sees why in `containments show`.",
    ),
)
