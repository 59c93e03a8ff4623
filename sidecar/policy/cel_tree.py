"""A compiled CEL expression as a tree: what it calls, reads and compares, and where.

Knows: the protobuf form of a checked expression (cel-spec `checked.proto`, `syntax.proto`), of
which it decodes the few fields it needs.
Must not know: the CEL library, which names or functions exist.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

#: Kinds of terms, by the number of their field in `Expr`.
CONSTANT, IDENTIFIER, SELECT, CALL, LIST, STRUCT, LOOP = 3, 4, 5, 6, 7, 8, 9

_NULL, _BOOLEAN, _INTEGER, _UNSIGNED, _DOUBLE, _TEXT_CONSTANT = 1, 2, 3, 4, 5, 6


class Unsigned(int):
    """The value of a constant like `7u`, which is of another type than 7."""


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Term:
    """One node. `name` is an identifier, a selected field, a function or a loop variable;
    `value` a constant's value; `parts` what is below it, a call's target first."""

    kind: int
    offset: int = 0
    name: str = ""
    value: Any = None
    parts: tuple[Term, ...] = ()

    def walk(self) -> Iterator[Term]:
        """This term and all below it."""
        pending = [self]
        while pending:
            term = pending.pop()
            yield term
            pending.extend(reversed(term.parts))

    @property
    def text(self) -> str | None:
        """The value of a text constant, None of anything else."""
        is_text = self.kind == CONSTANT and isinstance(self.value, str)
        return self.value if is_text else None


def decode(serialized: bytes) -> Term:
    """The tree of a serialized checked expression (wrapped in `Any`)."""
    checked = _message(_first(_message(serialized), 2))
    offsets: dict[int, int] = {}
    for entry in _message(_first(checked, 5)).get(4, []):
        pair = _message(entry)
        offsets[_number(pair, 1)] = _number(pair, 2)
    return _term(_first(checked, 4), offsets)


def _term(data: bytes, offsets: dict[int, int]) -> Term:
    fields = _message(data)
    offset = offsets.get(_number(fields, 2), 0)
    kind = next((number for number in fields if number in _READERS), None)
    if kind is None:
        return Term(CONSTANT, offset)
    name, value, parts = _READERS[kind](_message(fields[kind][0]))
    return Term(kind, offset, name, value, tuple(_term(part, offsets) for part in parts))


_Fields = dict[int, list[Any]]
_Read = tuple[str, Any, list[bytes]]


def _constant(fields: _Fields) -> _Read:
    for number, values in fields.items():
        if number in _CONSTANTS:
            return "", _CONSTANTS[number](values[0]), []
    return "", None, []


def _signed(raw: int) -> int:
    """A protobuf int64: negative values come as their two's complement."""
    return raw - (1 << 64) if raw >> 63 else raw


_CONSTANTS: dict[int, Callable[[Any], Any]] = {
    _NULL: lambda raw: None,
    _BOOLEAN: bool,
    _INTEGER: _signed,
    _UNSIGNED: Unsigned,
    _DOUBLE: float,
    _TEXT_CONSTANT: lambda raw: raw.decode("utf-8", "replace"),
}


def _identifier(fields: _Fields) -> _Read:
    return _text(fields, 1).removeprefix("."), None, []


def _select(fields: _Fields) -> _Read:
    return _text(fields, 2), bool(_number(fields, 3)), fields.get(1, [])


def _call(fields: _Fields) -> _Read:
    target = fields.get(1, [])
    return _text(fields, 2), bool(target), [*target, *fields.get(3, [])]


def _list(fields: _Fields) -> _Read:
    return "", None, fields.get(1, [])


def _struct(fields: _Fields) -> _Read:
    parts: list[bytes] = []
    for entry in fields.get(2, []):
        members = _message(entry)
        parts += [*members.get(3, []), *members.get(4, [])]
    return _text(fields, 1), None, parts


def _loop(fields: _Fields) -> _Read:
    variables = [_text(fields, number) for number in (1, 8, 3)]
    parts = [part for number in (2, 4, 5, 6, 7) for part in fields.get(number, [])]
    return variables[0], tuple(one for one in variables if one), parts


_READERS = {
    CONSTANT: _constant,
    IDENTIFIER: _identifier,
    SELECT: _select,
    CALL: _call,
    LIST: _list,
    STRUCT: _struct,
    LOOP: _loop,
}


def _message(data: bytes) -> _Fields:
    """Fields by number, in order of appearance."""
    fields: _Fields = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: Any
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire == _FIXED64:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif wire == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif wire == _FIXED32:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError(f"wire type {wire} in a checked expression")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _first(fields: _Fields, number: int) -> bytes:
    values = fields.get(number)
    return values[0] if values else b""


def _number(fields: _Fields, number: int) -> int:
    values = fields.get(number)
    return int(values[0]) if values else 0


def _text(fields: _Fields, number: int) -> str:
    return _first(fields, number).decode("utf-8", "replace")
