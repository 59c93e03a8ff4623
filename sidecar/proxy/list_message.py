"""A JSON-RPC message with a list of tools, read strictly: what is in it, and what is said of tools.

Knows: where a result has its list, what an item must have to be a tool, how long a definition may
be, and how long and for whom a list may be kept by a client.
Must not know: who asks, what is hidden, where messages come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sidecar.errors import Refused
from sidecar.ledger.canonical import NotCanonical
from sidecar.ledger.tool_definition import (
    MEMBERS,
    Definition,
    definition_of,
    unknown_definition,
)
from sidecar.proxy.dialects.mcp_message import is_callable_name
from sidecar.proxy.list_cutting import ITEMS_MAX, without_unreadable
from sidecar.proxy.strict_json import parse

#: What a server may say of one tool, in characters of its canonical form.
DEFINITION_LENGTH_MAX: Final = 128 * 1024
LIST_DEPTH_MAX: Final = 64
LIST_VALUES_MAX: Final = 250_000
#: How long a client may keep a list: what is hidden changes with policies and definitions.
LIST_TTL_MS_MAX: Final = 5_000
#: What an item of a list stands in: the message, its result, the list.
_DEPTH_OF_A_TOOL: Final = 3
#: The name of a list's member with a letter that folds to its last.
_LONG_S: Final = "tool\u017f".encode()
#: Letters that fold to the last two of a task.
_FOLDED: Final = ("\u017f".encode(), "\u212a".encode())
#: Names that mean something, by their form in folded case.
_OF_A_MESSAGE: Final = {name: name for name in ("jsonrpc", "id", "method", "result", "error")}
_OF_A_RESULT: Final = {
    name.casefold(): name for name in ("tools", "nextCursor", "cacheScope", "ttlMs")
}
_OF_A_TOOL: Final = {name.casefold(): name for name in MEMBERS}


class Listing(NamedTuple):
    """A message that holds lists of tools, and what they say of tools that can be called.

    `unknown` are the names of tools whose definitions cannot be read or kept, with the cause; if
    `is_cut`, what could not even be read stands in the message no more.
    """

    message: Any
    definitions: list[Definition]
    unknown: Mapping[str, str]
    is_cut: bool = False


def unchecked(why: str, detail: str = "") -> Refused:
    """The refusal of a list that cannot be checked."""
    return Refused("list_unchecked", f"The list cannot be checked: {why}", detail=detail)


def read_listing(data: bytes, is_list: bool) -> Listing | None:
    """A message that holds a list of tools, with what it says of them; None if it holds none.

    A tool that cannot be read takes no other one with it. Raises Refused("list_unchecked") for what
    cannot be read beside, if it must be a list, or if it might be one to somebody who reads it
    otherwise.
    """
    read = _read(data, is_list)
    if read is None:
        return None
    message, gone = read
    for one in message if type(message) is list else [message]:
        _require_one_reading(one, _OF_A_MESSAGE)
        if type(one) is dict:
            _require_one_reading(one.get("result"), _OF_A_RESULT)
    found = _listings(message)
    if not found:
        return None
    if sum(len(result["tools"]) for result in found) > ITEMS_MAX:
        raise unchecked(f"it holds more than {ITEMS_MAX} tools")
    definitions = [unknown_definition(n, why) for n, why in gone.items() if is_callable_name(n)]
    unknown = dict(gone)
    for result in found:
        for tool in result["tools"]:
            _require_one_reading(tool, _OF_A_TOOL)
            if type(tool) is not dict or type(tool.get("name")) is not str:
                raise unchecked("it holds something that is no tool")
            if is_callable_name(tool["name"]):
                definition, why = _definition(tool)
                definitions.append(definition)
                unknown |= {definition.tool: why} if why else {}
    return Listing(message, definitions, unknown, bool(gone))


def _read(data: bytes, is_list: bool) -> tuple[Any, dict[str, str]] | None:
    """A message, without the tools that cannot be read; these with the cause. None if there is no
    list in it."""
    try:
        return _parsed(data), {}
    except Refused as refused:
        cut = None
        if refused.code == "invalid_json" and (is_list or may_list(data)):
            cut = without_unreadable(data, LIST_DEPTH_MAX - _DEPTH_OF_A_TOOL)
        if cut is None:
            if is_list or refused.code == "too_many_values" or _might_list(data):
                raise unchecked(refused.reason) from refused
            return None
    try:
        return _parsed(cut.data), cut.gone
    except Refused as refused:
        raise unchecked(refused.reason) from refused


def _parsed(data: bytes) -> Any:
    return parse(data, LIST_DEPTH_MAX, LIST_VALUES_MAX, has_long_integers=True)


def _might_list(data: bytes) -> bool:
    """Whether a reader less strict than ours finds a list in there."""
    return any(map(_lists, _messages(data)))


def may_list(data: bytes) -> bool:
    """False if no reader can find a list of tools in these bytes."""
    lower = data.lower()
    if b"tools" in lower or b"\0" in lower:
        return True
    # One byte is found sooner than several, and mostly it is not there.
    return (b"\\" in lower and b"\\u" in lower) or (b"\xc5" in lower and _LONG_S in lower)


def lists_for_another(data: bytes, reply_id: str | int | None) -> bool:
    """Whether some reader finds a list of tools there that answers another request than this."""
    for one in _messages(data):
        ids = _spelt(one, "id") or [None]
        if _lists(one) and any(not is_same_id(its, reply_id) for its in ids):
            return True
    return False


def answered_ids(data: bytes) -> list[Any]:
    """The ids of the requests that some reader finds answered there."""
    return [
        its
        for one in _messages(data)
        if _spelt(one, "result") or _spelt(one, "error")
        for its in _spelt(one, "id")
    ]


def may_begin_task(data: bytes) -> bool:
    """False if no reader can find a task in these bytes."""
    lower = data.lower()
    return b"task" in lower or b"\\u" in lower or any(letter in lower for letter in _FOLDED)


def begins_task(data: bytes) -> bool:
    """Whether some reader finds there that a task was begun, whose result is had by another request
    (2025-11-25, and the tasks extension of 2026-07-28, where the server chooses)."""
    results = [one for message in _messages(data) for one in _spelt(message, "result")]
    return any(
        any(_spelt(task, "taskid") for task in _spelt(one, "task"))
        or any(
            type(kind) is str and kind.casefold() == "task" for kind in _spelt(one, "resulttype")
        )
        for one in results
    )


def is_same_id(one: Any, other: str | int | None) -> bool:
    """Whether two ids are one: 1 and "1" are two."""
    return type(one) is type(other) and one == other


def _messages(data: bytes) -> list[Any]:
    """The messages as readers less strict than ours have them; none of what cannot be read."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return message if type(message) is list else [message]


def _lists(message: Any) -> bool:
    """Whether some reader finds a list of tools in a message."""
    results = _spelt(message, "result")
    return any(type(tools) is list for one in results for tools in _spelt(one, "tools"))


def _spelt(value: Any, name: str) -> list[Any]:
    """All that stands in an object under a name in any letter case: readers differ on which."""
    if type(value) is not dict:
        return []
    return [one for spelt, one in value.items() if spelt.casefold() == name]


def _require_one_reading(value: Any, known: Mapping[str, str]) -> None:
    """A name in other letter case is another one to some readers."""
    if type(value) is dict and any(known.get(n.casefold(), n) != n for n in value):
        raise unchecked("a member differs from a known one in letter case")


def _listings(message: Any) -> list[dict[str, Any]]:
    """The results that hold lists; a batch of answers is several messages."""
    messages = message if type(message) is list else [message]
    return [result for one in messages if (result := listed_in(one)) is not None]


def _definition(tool: dict[str, Any]) -> tuple[Definition, str]:
    """What is said of a tool; and why that cannot be kept, if it cannot."""
    why = "it has no canonical form"
    try:
        definition = definition_of(tool)
        if len(definition.text) <= DEFINITION_LENGTH_MAX:
            return definition, ""
        why = f"it is larger than {DEFINITION_LENGTH_MAX} characters"
    except NotCanonical:
        pass
    return unknown_definition(tool["name"], why), why


def listed_in(message: Any) -> dict[str, Any] | None:
    """The result of a message, if it holds a list of tools."""
    result = message.get("result") if type(message) is dict else None
    if type(result) is not dict or type(result.get("tools")) is not list:
        return None
    return result


def cache_terms(result: dict[str, Any], *, has_terms: bool) -> dict[str, Any]:
    """What has to change of how long and for whom a list may be kept; `has_terms` says that the
    revision spoken has such terms (2026-07-28), else they are looked at where they stand."""
    terms: dict[str, Any] = {}
    if (has_terms or "cacheScope" in result) and result.get("cacheScope") != "private":
        terms["cacheScope"] = "private"
    ttl_ms = result.get("ttlMs")
    if type(ttl_ms) is not int or ttl_ms < 0:
        if has_terms or "ttlMs" in result:
            terms["ttlMs"] = 0
    elif ttl_ms > LIST_TTL_MS_MAX:
        terms["ttlMs"] = LIST_TTL_MS_MAX
    return terms
