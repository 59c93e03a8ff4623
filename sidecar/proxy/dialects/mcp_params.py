"""The params of each MCP method: which members they have, and what needs no rule.

Knows: the members that the revisions 2025-03-26 to 2026-07-28 name, and what a message that carries
the protocol itself holds in them. A message that holds anything else carries more than the
protocol, and is judged like any operation: so nothing leaves unjudged but what is named here, up to
the bounds that are named here. That readers who ignore letter case must find the same members.
Must not know: HTTP, policies, tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import orjson

from sidecar.proxy.dialects.mcp_methods import is_protocol_method

#: Of the free text that people read: why something was cancelled, how far it has come.
TEXT_LENGTH_MAX: Final = 1024
#: Of a place in a list, which its server gave; in characters.
CURSOR_LENGTH_MAX: Final = 4096
#: Of an id, a progress token and the name of a revision; in characters.
NAME_LENGTH_MAX: Final = 256
#: Of `_meta`, and of what a client says of itself (its capabilities, its name with icons), as JSON.
FREE_BYTES_MAX: Final = 8 * 1024

META: Final = "_meta"
_LEVELS: Final = frozenset(
    {"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}
)
#: What a listen request may ask for without naming a resource.
_LIST_NEWS: Final = frozenset({"toolsListChanged", "promptsListChanged", "resourcesListChanged"})

Fits = Callable[[Any], bool]


def _is_free(value: Any) -> bool:
    return type(value) is dict and len(orjson.dumps(value)) <= FREE_BYTES_MAX


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) <= TEXT_LENGTH_MAX


def _is_cursor(value: Any) -> bool:
    return type(value) is str and len(value) <= CURSOR_LENGTH_MAX


def _is_name(value: Any) -> bool:
    return type(value) is str and len(value) <= NAME_LENGTH_MAX


def _is_id(value: Any) -> bool:
    return type(value) is int or _is_name(value)


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _is_level(value: Any) -> bool:
    return type(value) is str and value in _LEVELS


def _is_list_news(value: Any) -> bool:
    """Whether a listen request asks for no more than news of changed lists. One that names
    resources does what `resources/subscribe` did, and is judged as that one is."""
    return type(value) is dict and all(_is_news(name, wanted) for name, wanted in value.items())


def _is_news(name: str, wanted: Any) -> bool:
    if name in _LIST_NEWS:
        return type(wanted) is bool or wanted is None
    return name == "resourceSubscriptions" and not wanted


_META_ONLY: Final[Mapping[str, Fits]] = {META: _is_free}
_PAGE: Final[Mapping[str, Fits]] = {META: _is_free, "cursor": _is_cursor}

#: What stands in messages that carry the protocol itself, by their method.
PROTOCOL_PARAMS: Final[Mapping[str, Mapping[str, Fits]]] = {
    "initialize": {
        META: _is_free,
        "protocolVersion": _is_name,
        "capabilities": _is_free,
        "clientInfo": _is_free,
    },
    "server/discover": _META_ONLY,
    "ping": _META_ONLY,
    "tools/list": _PAGE,
    "prompts/list": _PAGE,
    "resources/list": _PAGE,
    "resources/templates/list": _PAGE,
    "logging/setLevel": {META: _is_free, "level": _is_level},
    "subscriptions/listen": {META: _is_free, "notifications": _is_list_news},
    "notifications/initialized": _META_ONLY,
    "notifications/cancelled": {META: _is_free, "requestId": _is_id, "reason": _is_text},
    "notifications/progress": {
        META: _is_free,
        "progressToken": _is_id,
        "progress": _is_number,
        "total": _is_number,
        "message": _is_text,
    },
    "notifications/roots/list_changed": _META_ONLY,
}

_AGAIN: Final = frozenset({"inputResponses", "requestState"})
#: The members of methods that are judged.
_JUDGED_PARAMS: Final[Mapping[str, frozenset[str]]] = {
    "tools/call": frozenset({"name", "arguments", "task"}) | _AGAIN,
    "resources/read": frozenset({"uri"}) | _AGAIN,
    "resources/subscribe": frozenset({"uri"}),
    "resources/unsubscribe": frozenset({"uri"}),
    "prompts/get": frozenset({"name", "arguments"}) | _AGAIN,
    "completion/complete": frozenset({"ref", "argument", "context"}),
    "tasks/get": frozenset({"taskId"}),
    "tasks/list": frozenset({"cursor"}),
    "tasks/result": frozenset({"taskId"}),
    "tasks/cancel": frozenset({"taskId"}),
    "sampling/createMessage": frozenset(
        {
            "messages",
            "modelPreferences",
            "systemPrompt",
            "includeContext",
            "temperature",
            "maxTokens",
            "stopSequences",
            "metadata",
            "tools",
            "toolChoice",
            "task",
        }
    ),
    "elicitation/create": frozenset(
        {"mode", "message", "requestedSchema", "url", "elicitationId", "task"}
    ),
    "roots/list": frozenset(),
}

#: The members that the revisions name, by method; `_meta` may stand everywhere.
MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    method: frozenset({META, *names})
    for method, names in {**PROTOCOL_PARAMS, **_JUDGED_PARAMS}.items()
}
_UNNAMED: Final = frozenset({META})
_FOLDED: Final = {method: {one.casefold() for one in names} for method, names in MEMBERS.items()}


def is_protocol_message(method: str, params: Mapping[str, Any], *, expects_reply: bool) -> bool:
    """Whether this message carries the protocol and nothing else, and so needs no rule."""
    if not is_protocol_method(method, expects_reply=expects_reply):
        return False
    return not params or beyond_protocol(method, params) is None


def beyond_protocol(method: str, params: Mapping[str, Any]) -> str | None:
    """What of a message that carries the protocol is more than that: the first such member, if the
    method has one of that name; None if there is nothing, "params" if it has no such member."""
    shape = PROTOCOL_PARAMS[method]
    for name, value in params.items():
        fits = shape.get(name)
        if fits is None:
            return "params"
        if not (value is None or fits(value)):
            return f"params.{name}"
    return None


def is_bare_answer(answer: Mapping[str, Any]) -> bool:
    """Whether a client's answer says no more than that it is there, as that to a ping does."""
    return answer == {"result": {}}


def misspelt_member(method: str, names: Collection[str]) -> str | None:
    """A member of params that is another one to a reader who ignores letter case: it differs in
    case alone from another one, or from one that the method has. None if there is none."""
    known = MEMBERS.get(method, _UNNAMED)
    if known.issuperset(names):
        return None
    folded = _FOLDED.get(method, _UNNAMED)
    return alike(names) or next(
        (name for name in names if name not in known and name.casefold() in folded), None
    )


def alike(names: Collection[str]) -> str | None:
    """A name that differs in letter case alone from one before it; None if there is none."""
    if len(set(map(str.casefold, names))) == len(names):
        return None
    seen: set[str] = set()
    for name in names:
        folded = name.casefold()
        if folded in seen:
            return name
        seen.add(folded)
    return None
