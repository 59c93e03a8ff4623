"""What a message of an MCP server asks of the agent, read so that no client can read more in it.

Knows: the ways in which a server asks: a request of its own (sampling, elicitation, roots; up to
revision 2025-11-25), input requests in an answer (2026-07-28; before that, the addresses that an
answer's error asks to have opened), and those of a task in a notification. What asks nothing is
read as leniently as clients read it; what asks must be strict JSON, and a message that two readers
could take for different ones is refused.
Must not know: HTTP, streams, policies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from sidecar.errors import Refused
from sidecar.proxy.dialects.mcp_message import ID_LENGTH_MAX
from sidecar.proxy.strict_json import holds_more, parse

#: Nesting of a message that asks.
DEPTH_MAX: Final = 64
#: Input requests of one answer.
ASKED_MAX: Final = 32

INPUT_REQUIRED: Final = "input_required"
#: An error of 2025-11-25 that asks the client to have addresses opened by its user.
ADDRESSES_REQUIRED: Final = -32042
#: The server's tools are others now: on any stream of a session, on one that a client listens on
#: (`subscriptions/listen`, 2026-07-28), over a pipe.
TOOLS_CHANGED: Final = "notifications/tools/list_changed"
_ELICIT: Final = "elicitation/create"

#: Names that mean something, by their form in lower case.
_RESERVED: Final = {
    name.lower(): name for name in ("jsonrpc", "id", "method", "params", "result", "error")
}
_OF_A_RESULT: Final = {
    name.lower(): name for name in ("resultType", "inputRequests", "requestState")
}
_OF_AN_ERROR: Final = {name: name for name in ("code", "data", "elicitations")}
#: What stands in every message that asks, in lower case; else it holds escapes or is not UTF-8.
_MARKS: Final = (b'"method"', b"input", b"requeststate", b"elicitation", b"\0")
_ESCAPE: Final = b"\\u"


class Asked(NamedTuple):
    """One request for the agent; `key` is its name among the input requests of a message."""

    method: str
    params: dict[str, Any]
    asks: str | int | None = None
    key: str = ""


class ServerMessage(NamedTuple):
    """What a message says, as far as its way depends on it.

    `is_rpc` tells a JSON-RPC message (or several) from any other JSON. `requests` are what it asks;
    if `is_answer` they stand in an answer, to the request with the id `answers`, if `is_news` in a
    notification. `request_state` is what the agent has to give back with its own answers.
    `tools_changed` says that the server announces other tools, `pings` are the ids under which it
    asks whether its client is there.
    """

    is_rpc: bool
    requests: tuple[Asked, ...] = ()
    is_answer: bool = False
    request_state: str | None = None
    answers: str | int | None = None
    is_news: bool = False
    tools_changed: bool = False
    pings: tuple[str | int, ...] = ()


_ASKS_NOTHING = ServerMessage(True)
_NO_RPC = ServerMessage(False)


class _Members(dict[str, Any]):
    """The members of an object; `twice` says that a name stood there twice."""

    twice = False


def may_ask(data: bytes) -> bool:
    """False if no reader can find a request, or an answer that asks, in these bytes."""
    lower = data.lower()
    for mark in _MARKS:
        if mark in lower:
            return True
    # One byte is found sooner than two, and mostly it is not there.
    return b"\\" in lower and _ESCAPE in lower


def is_plain_answer(data: bytes) -> bool:
    """Whether these bytes are a JSON-RPC answer that asks nothing, to every reader; most are, and
    it is told sooner so."""
    if may_ask(data) or data.count(b'"result"') != 1:
        return False
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return type(message) is dict and "id" in message and type(message.get("result")) is dict


def read_server_message(data: bytes, values_max: int) -> ServerMessage:
    """What the bytes of a server's message say.

    Raises Refused("answer_unchecked") for what is no JSON, for what readers could differ on, and
    for more than `values_max` values.
    """
    require_few_values(data, values_max)
    document, is_strict = _document(data)
    messages = document if type(document) is list else [document]
    found = [_one(message) for message in messages]
    if len(found) == 1 and document is not messages:
        said = found[0]
    elif all(one.is_rpc and not one.requests and one.request_state is None for one in found):
        said = _ASKS_NOTHING if found else _NO_RPC
        said = said._replace(
            tools_changed=any(one.tools_changed for one in found),
            pings=tuple(ping for one in found for ping in one.pings),
        )
    else:
        raise _unchecked("several messages in one, of which some ask something")
    if said.requests and not is_strict:
        raise _unchecked("a request in JSON that readers differ on")
    return said


def is_broken_off(data: bytes) -> bool:
    """Whether no reader finds a whole message in these bytes: a stream ended in the midst of it."""
    try:
        json.loads(data)
    except RecursionError:
        return False
    except ValueError:
        return True
    return False


def require_few_values(data: bytes, values_max: int) -> None:
    """Raises Refused("answer_unchecked"): to read them all would hold up every other call, in a
    thread of its own too."""
    if holds_more(data, values_max):
        raise _unchecked(
            f"a message of it holds more than {values_max} values (`limits.message_values`)"
        )


def _document(data: bytes) -> tuple[Any, bool]:
    """The JSON of a message, and whether it is strict."""
    try:
        return parse(data, DEPTH_MAX), True
    except Refused:
        pass
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_members), False
    except (ValueError, RecursionError):
        raise _unchecked("no JSON in UTF-8") from None


def _members(pairs: list[tuple[str, Any]]) -> _Members:
    made = _Members(pairs)
    made.twice = len(made) != len(pairs)
    return made


def _one(message: Any) -> ServerMessage:
    if not isinstance(message, dict):
        return _NO_RPC
    _require_one_reading(message, _RESERVED)
    if "method" in message:
        return _request(message)
    if "result" in message:
        said = _result(message["result"])
    elif "error" in message:
        said = _error(message["error"], "id" in message or "jsonrpc" in message)
    else:
        return _NO_RPC
    answers = message.get("id")
    return said._replace(answers=answers) if type(answers) in (str, int) else said


def _request(message: dict[str, Any]) -> ServerMessage:
    method, params = message["method"], message.get("params")
    if type(method) is not str or "result" in message or "error" in message:
        raise _unchecked("a message that is request and answer")
    asks: Any = message.get("id")
    if method == "ping" and not (type(asks) is str and len(asks) > ID_LENGTH_MAX):
        return ServerMessage(True, pings=(asks,) if type(asks) in (str, int) else ())
    if method.startswith("notifications/") and "id" not in message:
        if isinstance(params, dict):
            _require_one_reading(params, _OF_A_RESULT)
        changed = method == TOOLS_CHANGED
        if not isinstance(params, dict) or params.get("inputRequests") is None:
            return ServerMessage(True, tools_changed=True) if changed else _ASKS_NOTHING
        # A task that asks tells so by itself (SEP-2663): what it asks is what is judged.
        requests = _input_requests(params["inputRequests"])
        return ServerMessage(True, requests, is_news=True, tools_changed=changed)
    if asks is not None and type(asks) not in (str, int):
        raise _unchecked("a request whose id is none")
    return ServerMessage(True, (_asked(method, params, asks),))


def _result(result: Any) -> ServerMessage:
    if not isinstance(result, dict):
        return _ASKS_NOTHING
    _require_one_reading(result, _OF_A_RESULT)
    state = result.get("requestState")
    requests = result.get("inputRequests")
    if state is not None and type(state) is not str:
        raise _unchecked("a request state that is no text")
    if requests is None:
        asks = result.get("resultType") == INPUT_REQUIRED
        return ServerMessage(True, is_answer=True, request_state=state) if asks else _ASKS_NOTHING
    found = _input_requests(requests)
    return ServerMessage(True, found, is_answer=True, request_state=state)


def _input_requests(requests: Any) -> tuple[Asked, ...]:
    """What is asked by name, each as a request of its own would ask it."""
    if not isinstance(requests, dict) or len(requests) > ASKED_MAX:
        raise _unchecked("input requests that are none, or too many")
    found: list[Asked] = []
    for key, request in requests.items():
        if not isinstance(request, dict):
            raise _unchecked("an input request that is none")
        _require_one_reading(request, _RESERVED)
        found.append(_asked(request.get("method"), request.get("params"), None, key))
    return tuple(found)


def _error(error: Any, is_rpc: bool) -> ServerMessage:
    if not isinstance(error, dict):
        return ServerMessage(is_rpc)
    _require_one_reading(error, _OF_AN_ERROR)
    if error.get("code") != ADDRESSES_REQUIRED:
        return ServerMessage(is_rpc)
    data = error.get("data")
    if isinstance(data, dict):
        _require_one_reading(data, _OF_AN_ERROR)
    wanted = data.get("elicitations") if isinstance(data, dict) else None
    if not isinstance(wanted, list) or len(wanted) > ASKED_MAX:
        return ServerMessage(is_rpc)
    found = [_asked(_ELICIT, one, None, str(number)) for number, one in enumerate(wanted)]
    return ServerMessage(True, tuple(found), is_answer=True)


def _asked(method: Any, params: Any, asks: str | int | None, key: str = "") -> Asked:
    if params is None:
        params = {}
    if type(method) is not str or not isinstance(params, dict):
        raise _unchecked("a request without a method, or with params that are no object")
    return Asked(method, params, asks, key)


def _require_one_reading(members: dict[str, Any], known: Mapping[str, str]) -> None:
    """A name twice, or in other letter case, is another one to some readers."""
    if getattr(members, "twice", False):
        raise _unchecked("a member stands there twice")
    for name in members:
        if known.get(name.casefold(), name) != name:
            raise _unchecked("a member differs from a known one in letter case")


def _unchecked(why: str) -> Refused:
    return Refused("answer_unchecked", f"The answer cannot be checked: {why}")
