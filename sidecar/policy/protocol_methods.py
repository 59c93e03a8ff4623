"""Which operations of an MCP upstream carry the protocol itself, and so go ahead by no rule.

Knows: the literal allow list over the revisions 2025-03-26 to 2026-07-28. What is not on it is
judged like any operation, so that a method invented tomorrow is refused by default. It stands here
for whoever checks rules; what a message must hold beside, to be one of them, is for its reader.
Must not know: HTTP, how a message is read, rules, tools.
"""

from __future__ import annotations

from typing import Final

TOOLS_LIST: Final = "tools/list"
CANCELLED: Final = "notifications/cancelled"
LISTEN: Final = "subscriptions/listen"

#: Operations that are no JSON-RPC request: a client's answer, the GET stream, the DELETE, and the
#: look-up of where tokens for a server are given. An answer needs no rule (`CLIENT_ANSWER`), so no
#: request may have that name for its method.
RESPONSE: Final = "response"
STREAM: Final = "stream"
SESSION_END: Final = "session-end"
METADATA: Final = "authorization/metadata"

#: Requests that negotiate, keep alive or list; they neither read content nor act.
PROTOCOL_REQUESTS: Final = frozenset(
    {
        "initialize",
        "server/discover",
        "ping",
        TOOLS_LIST,
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "logging/setLevel",
        LISTEN,
    }
)

#: Notifications a client sends.
PROTOCOL_NOTIFICATIONS: Final = frozenset(
    {
        "notifications/initialized",
        CANCELLED,
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)

#: On which a rule waits for nothing that is sent as it is meant. A listen request that names
#: resources is judged, and an answer may say anything.
NEVER_JUDGED: Final = (
    PROTOCOL_REQUESTS | PROTOCOL_NOTIFICATIONS | {STREAM, SESSION_END, METADATA}
) - {LISTEN}
