"""An authorize request read from its bytes, strictly. Pure.

Knows: which members there are, of which types and how long; that null is the same as absent where
a member may be left out; that a member nobody knows could be meant as a limit, and is refused.
Must not know: HTTP, who sends it, what is decided.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sidecar.errors import Refused
from sidecar.proxy.strict_json import parse

#: Characters of names and ids; of the resource, which may be a path or an address.
NAME_LENGTH_MAX: Final = 256
RESOURCE_LENGTH_MAX: Final = 4096
#: Characters of what is kept as a key of the store.
KEY_LENGTH_MAX: Final = 128

_TOP: Final = frozenset(
    {
        "agent", "callback", "context", "dry_run", "nonce", "request_id", "timestamp", "tool_call",
        "trace", "user",
    }
)  # fmt: skip
_AGENT: Final = frozenset({"id", "environment"})
_USER: Final = frozenset({"id", "role"})
_TOOL_CALL: Final = frozenset({"tool", "action", "resource", "mutates_state", "parameters"})
_CONTEXT: Final = frozenset({"source_trust", "contains_sensitive_data"})
_TRACE: Final = frozenset({"run_id", "trace_id", "parent_run_id", "root_trust_level"})

#: RFC 3339 section 5.6; a leap second is read as the second before it.
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Members = Mapping[str, Any]


class AuthorizeRequest(NamedTuple):
    """What is asked. Texts stand as they were sent; None where a member was left out.

    `agent_id`, `environment`, `user_id` and `user_role` are the caller's words: who calls is known
    by his token alone.
    """

    tool: str
    action: str
    resource: str | None
    mutates_state: bool
    parameters: Any
    source_trust: str
    contains_sensitive_data: bool
    agent_id: str
    environment: str
    user_id: str | None = None
    user_role: str | None = None
    run_id: str | None = None
    trace_id: str | None = None
    parent_run_id: str | None = None
    root_trust_level: str | None = None
    request_id: str | None = None
    nonce: str | None = None
    timestamp_us: int | None = None
    dry_run: bool = False


def read_request(body: bytes, depth_max: int, values_max: int) -> AuthorizeRequest:
    """The request in `body`.

    Raises Refused: invalid_json; too_many_values; invalid_request, whose reason names the member
    and none of its content.
    """
    whole = _object(parse(body, depth_max, values_max), "the body", _TOP)
    agent = _part(whole, "agent", _AGENT)
    call = _part(whole, "tool_call", _TOOL_CALL)
    context = _part(whole, "context", _CONTEXT)
    user = _part(whole, "user", _USER, is_optional=True)
    trace = _part(whole, "trace", _TRACE, is_optional=True)
    if whole.get("callback") is not None:
        raise _wrong(
            "callback", "is not served: ask for the approval by its id until it is decided"
        )
    if "parameters" not in call:
        raise _wrong("tool_call.parameters", "is missing")
    return AuthorizeRequest(
        tool=_text(call, "tool", "tool_call"),
        action=_text(call, "action", "tool_call"),
        resource=_optional(call, "resource", "tool_call", RESOURCE_LENGTH_MAX, is_empty_right=True),
        mutates_state=_boolean(call, "mutates_state", "tool_call"),
        parameters=call["parameters"],
        source_trust=_text(context, "source_trust", "context"),
        contains_sensitive_data=_boolean(context, "contains_sensitive_data", "context", False),
        agent_id=_text(agent, "id", "agent"),
        environment=_text(agent, "environment", "agent"),
        user_id=_text(user, "id", "user") if user is not None else None,
        user_role=_text(user, "role", "user") if user is not None else None,
        run_id=_text(trace, "run_id", "trace") if trace is not None else None,
        trace_id=_text(trace, "trace_id", "trace") if trace is not None else None,
        parent_run_id=_optional(trace, "parent_run_id", "trace") if trace is not None else None,
        root_trust_level=_optional(trace, "root_trust_level", "trace")
        if trace is not None
        else None,
        request_id=_optional(whole, "request_id", "", KEY_LENGTH_MAX),
        nonce=_optional(whole, "nonce", "", KEY_LENGTH_MAX),
        timestamp_us=_moment(whole),
        dry_run=_boolean(whole, "dry_run", "", False),
    )


def _object(value: Any, where: str, known: frozenset[str]) -> Members:
    if type(value) is not dict:
        raise _wrong(where, "must be an object")
    if not known.issuperset(value):
        # Ours first: a name that is not ours is the caller's text, and is shown escaped.
        name = min(value.keys() - known)
        place = ascii(name[:40])
        raise _wrong(place if where == "the body" else f"{place} in {where}", "is not known here")
    return value


def _part(whole: Members, name: str, known: frozenset[str], *, is_optional: bool = False) -> Any:
    """The members of one part; None of one that may be left out and is."""
    value = whole.get(name)
    if value is None:
        if is_optional:
            return None
        raise _wrong(name, "is missing")
    return _object(value, name, known)


def _text(members: Members, name: str, where: str) -> str:
    value = members.get(name)
    if value is None:
        raise _wrong(_place(where, name), "is missing")
    return _checked(value, _place(where, name), NAME_LENGTH_MAX)


def _optional(
    members: Members,
    name: str,
    where: str,
    length_max: int = NAME_LENGTH_MAX,
    *,
    is_empty_right: bool = False,
) -> str | None:
    value = members.get(name)
    if value is None or (is_empty_right and value == ""):
        return value
    return _checked(value, _place(where, name), length_max)


def _checked(value: Any, place: str, length_max: int) -> str:
    if type(value) is not str:
        raise _wrong(place, "must be a text")
    if not 0 < len(value) <= length_max:
        raise _wrong(place, f"must have 1 to {length_max} characters")
    return value


def _boolean(members: Members, name: str, where: str, usual: bool | None = None) -> bool:
    value = members.get(name)
    if value is None and usual is not None:
        return usual
    if type(value) is not bool:
        raise _wrong(
            _place(where, name), "is missing" if value is None else "must be true or false"
        )
    return value


def _moment(whole: Members) -> int | None:
    """`timestamp` as microseconds since 1970, UTC."""
    text = whole.get("timestamp")
    if text is None:
        return None
    found = _TIME.fullmatch(text) if type(text) is str else None
    try:
        if found is None:
            raise ValueError
        date, minute, second, fraction, zone = found.groups()
        second = "59" if second == "60" else second
        fraction = (fraction or ".0")[:7]
        moment = datetime.fromisoformat(f"{date}T{minute}:{second}{fraction}{zone.upper()}")
    except (ValueError, OverflowError):
        raise _wrong("timestamp", "must be a time as RFC 3339 writes it") from None
    return (moment - _EPOCH) // _MICROSECOND


def _place(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _wrong(place: str, what: str) -> Refused:
    return Refused("invalid_request", f"{place} {what}")
