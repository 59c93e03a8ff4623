"""How large a value of a call is, counted before a condition is given it.

Knows: values and bytes of JSON-like data, and what the CEL library cannot be given: NUL, at which
it cuts a text; integers beyond 64 bits; half of a surrogate pair.
Must not know: which condition reads the value, what that costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

#: More are not counted: no condition can be given them (`cel_costs.COST_MAX_NS`).
VALUES_MAX: Final = 10_000

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
#: Members of longer lists are first looked at together.
_ONE_BY_ONE: Final = 8
_HOLDERS: Final = frozenset({list, dict, tuple})
_TEXTS: Final = {str}
_PLAIN: Final = frozenset({type(None), bool, float})


class Size(NamedTuple):
    """So many values (a text is one, a list one more than what it holds), so many bytes of text."""

    values: int
    bytes: int


#: As much as nearly every call holds; conditions are told apart by less only if it is more.
USUAL_VALUES: Final = 32
USUAL_BYTES: Final = 1024

#: A number, true, false, null, or nothing at all.
SCALAR: Final = Size(1, 0)


class Unreadable(ValueError):
    """A value that no condition can be given; the message says why, after what it is."""


def quick_size(args: Any) -> Size | None:
    """How large the values of arguments are together; looked at in a hurry, so None only means that
    it takes a closer look: they are many, long, or something that no condition can be given."""
    if type(args) is not dict:
        return None
    members = [*args.values()]
    texts: list[str] = []
    for one in members:  # and what they hold, which is added on the way
        kind = type(one)
        if kind is str:
            texts.append(one)
        elif kind is int:
            if not _INT64_MIN <= one <= _INT64_MAX:
                return None
        elif kind is list or kind is dict:
            if len(members) + len(one) > USUAL_VALUES:
                return None
            members += one
            members += one.values() if kind is dict else ()
        elif kind not in _PLAIN:
            return None
    text = "".join(texts)
    if len(members) > USUAL_VALUES or len(text) > USUAL_BYTES or "\0" in text:
        return None
    return Size(len(members), len(text)) if text.isascii() else None


def size_within(text: bytes, members: int) -> Size | None:
    """How large the values of so many arguments can be together, at most, that stand in a text of
    strict JSON; None if that takes a closer look. A value is the text's one, its holder's first or
    behind a comma, and behind a name is a colon; such a text holds nothing that no condition can
    be given."""
    values = 1 + text.count(b",") + text.count(b"[") + text.count(b"{") + text.count(b":") - members
    return None if values > USUAL_VALUES or len(text) > USUAL_BYTES else Size(values, len(text))


def size_of(value: Any) -> Size:
    """The size of JSON-like data; raises Unreadable."""
    if type(value) is str:
        return Size(1, _text_bytes(value))
    if type(value) not in _HOLDERS:
        _check_scalar(value)
        return SCALAR
    values, total = 1, 0
    pending: list[Any] = [value]
    while pending:
        holder = pending.pop()
        members: Sequence[Any] = holder
        if type(holder) is dict:
            members = [*holder, *holder.values()]
        values += len(members)
        if values > VALUES_MAX:
            raise Unreadable(f"holds more than {VALUES_MAX} values")
        if len(members) > _ONE_BY_ONE and set(map(type, members)) == _TEXTS:
            total += _text_bytes("".join(members))
            continue
        for one in members:
            kind = type(one)
            if kind is str:
                total += _text_bytes(one)
            elif kind in _HOLDERS:
                pending.append(one)
            elif kind is int and not _INT64_MIN <= one <= _INT64_MAX:
                _check_scalar(one)
    return Size(values, total)


def _text_bytes(text: str) -> int:
    if "\0" in text:
        raise Unreadable("holds NUL")
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise Unreadable("holds half of a surrogate pair") from None


def _check_scalar(value: Any) -> None:
    if type(value) is int and not _INT64_MIN <= value <= _INT64_MAX:
        raise Unreadable("holds an integer beyond 64 bits")
