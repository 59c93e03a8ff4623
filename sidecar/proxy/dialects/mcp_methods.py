"""Which MCP methods carry the protocol itself, and how a message maps to an operation.

Knows: the literal allow list over the revisions 2025-03-26 to 2026-07-28. What is not on it is
judged like any operation, so that a method invented tomorrow is refused by default.
Must not know: HTTP, policies, tools.
"""

from __future__ import annotations

TOOLS_CALL = "tools/call"
PROMPTS_GET = "prompts/get"
TOOLS_LIST = "tools/list"

#: Operations that are no JSON-RPC request: a client's answer, the GET stream, the DELETE. An answer
#: needs no rule (`CLIENT_ANSWER` of the policies), so no request may have that name for its method.
RESPONSE = "response"
STREAM = "stream"
SESSION_END = "session-end"

#: The HTTP method that opens the stream of a session.
STREAM_METHOD = "GET"

#: Actions whose answers may hold a list of tools: the request itself, and a session's stream, on
#: which a server repeats an answer whose own stream broke off.
LISTING = frozenset({TOOLS_LIST, STREAM_METHOD})

#: Requests that negotiate, keep alive or list; they neither read content nor act.
PROTOCOL_REQUESTS = frozenset(
    {
        "initialize",
        "server/discover",
        "ping",
        TOOLS_LIST,
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "logging/setLevel",
        "subscriptions/listen",
    }
)

CANCELLED = "notifications/cancelled"

#: Notifications a client sends.
PROTOCOL_NOTIFICATIONS = frozenset(
    {
        "notifications/initialized",
        CANCELLED,
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)

#: Known methods that are judged: they read content, act, or carry free text out.
JUDGED_METHODS = frozenset(
    {
        TOOLS_CALL,
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        PROMPTS_GET,
        "completion/complete",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tasks/cancel",
        "sampling/createMessage",
        "elicitation/create",
        "roots/list",
    }
)

#: Every method of the two revisions.
KNOWN_METHODS = PROTOCOL_REQUESTS | PROTOCOL_NOTIFICATIONS | JUDGED_METHODS
_KNOWN_FOLDED = frozenset(method.lower() for method in KNOWN_METHODS)

#: The member of params that `Mcp-Name` repeats (revision 2026-07-28).
NAME_MEMBER: dict[str, str] = {
    TOOLS_CALL: "name",
    PROMPTS_GET: "name",
    "resources/read": "uri",
}


def is_protocol_method(method: str, *, expects_reply: bool = True) -> bool:
    """Whether the allow list names `method`, as a request or (no reply) as a notification."""
    return method in (PROTOCOL_REQUESTS if expects_reply else PROTOCOL_NOTIFICATIONS)


def is_misspelt(method: str) -> bool:
    """Whether `method` is a known one in other letter case: two readers could differ on it."""
    return method not in KNOWN_METHODS and method.lower() in _KNOWN_FOLDED
