"""In what an action differs from the last one that was approved of the same tool by the same agent.
Pure.

Knows: that both are compared as approvers were shown them: what is masked stays masked, and cannot
be told to be the same; what was cut cannot either. At most so many differences are told.
Must not know: where approvals come from, who looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from sidecar.approvals.as_asked import read_asked
from sidecar.approvals.asked import NOT_KEPT
from sidecar.approvals.readable import readable
from sidecar.ledger.recorded_call import AUTHORIZE
from sidecar.policy.secret_names import MASK
from storage.standing import ApprovalRow

DIFFERENCES_MAX: Final = 64
#: Characters of one value; the whole of it stands in what is asked.
VALUE_LENGTH_MAX: Final = 256
#: What is compared beside the arguments.
_BESIDE: Final = ("called", AUTHORIZE, "method", "path", "user", "headers", "beside")
_NOTHING: Final = object()
#: Members that say that not all of it is there to be compared.
_NOT_WHOLE: Final = ("is_cut", "is_altered")


def compared(row: ApprovalRow, before: ApprovalRow | None) -> dict[str, Any] | None:
    """The approval before, and the differences from it; None if there is none."""
    if before is None:
        return None
    old, new = read_asked(before), read_asked(row)
    found: list[dict[str, Any]] = []
    is_whole = not any(one.get(name) for one in (old, new) for name in _NOT_WHOLE)
    for one in _differences(old, new):
        if len(found) == DIFFERENCES_MAX:
            is_whole = False
            break
        found.append(one)
    return {
        "approval_id": before.approval_id,
        "asked_at_us": before.asked_at_us,
        "differences": found,
        "is_whole": is_whole and not any(one["what"] == "unknown" for one in found),
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in _BESIDE:
        yield from _between(name, old.get(name, _NOTHING), new.get(name, _NOTHING))
    left, right = old.get("arguments", {}), new.get("arguments", {})
    if isinstance(left, dict) and isinstance(right, dict):
        yield from _members("", left, right)
    else:  # a text in place of what is not kept
        yield _told("unknown", "arguments", left, right)


def _members(at: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in sorted(old.keys() | new.keys()):
        place = f"{at}.{name}" if at else f"args.{name}"
        yield from _between(place, old.get(name, _NOTHING), new.get(name, _NOTHING))


def _between(at: str, old: Any, new: Any) -> Iterator[dict[str, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _members(at, old, new)
    elif old is _NOTHING and new is _NOTHING:
        return
    elif old is _NOTHING:
        yield _told("added", at, old, new)
    elif new is _NOTHING:
        yield _told("removed", at, old, new)
    elif _written(old) != _written(new):
        yield _told("changed", at, old, new)
    elif _is_masked(old):
        yield _told("unknown", at, old, new)


def _is_masked(value: Any) -> bool:
    """Whether something of a value was masked, be it a part of a text, or all of it not kept."""
    if isinstance(value, list):
        return any(map(_is_masked, value))
    if isinstance(value, dict):
        return any(map(_is_masked, value.values()))
    return isinstance(value, str) and (MASK in value or value == NOT_KEPT)


def _written(value: Any) -> bytes:
    """As JSON: 1, 1.0 and true are three values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _told(what: str, at: str, old: Any, new: Any) -> dict[str, Any]:
    # A text in the place of something else is told apart from it.
    is_plain = isinstance(old, str) == isinstance(new, str)
    before, now = _short(old, is_plain=is_plain), _short(new, is_plain=is_plain)
    return {"what": what, "at": at[:VALUE_LENGTH_MAX], "before": before, "now": now}


def _short(value: Any, *, is_plain: bool) -> str | None:
    """A value as text; None for one that is not there."""
    if value is _NOTHING:
        return None
    if isinstance(value, str):
        text = value if is_plain else readable(value)
    else:
        text = _written(value).decode()
    if len(text) <= VALUE_LENGTH_MAX:
        return text
    return f"{text[:VALUE_LENGTH_MAX]}… [{len(text) - VALUE_LENGTH_MAX} characters more]"
