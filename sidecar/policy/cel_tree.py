"""A compiled CEL expression as a tree: what it calls, reads and compares, and where.

Knows: the protobuf form of a checked expression (cel-spec `checked.proto`, `syntax.proto`), of
which it decodes the few fields it needs.
Must not know: the CEL library, which names or functions exist.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

#: Kinds of terms, by the number of their field in `Expr`.
CONSTANT, IDENTIFIER, SELECT, CALL, LIST, STRUCT, LOOP = 3, 4, 5, 6, 7, 8, 9

_NULL, _BOOLEAN, _INTEGER, _UNSIGNED, _DOUBLE, _TEXT_CONSTANT = 1, 2, 3, 4, 5, 6

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: Tags, which are the number of a field and how it is written: of an expression, what it is of …
_EXPRESSION, _SOURCE, _ID = 4 << 3 | _BYTES, 5 << 3 | _BYTES, 2 << 3
#: … of a call, and of a selection.
_TARGET, _FUNCTION, _ARGUMENT = 1 << 3 | _BYTES, 2 << 3 | _BYTES, 3 << 3 | _BYTES
_OPERAND, _FIELD, _IS_TEST = 1 << 3 | _BYTES, 2 << 3 | _BYTES, 3 << 3
#: … of an identifier, and of a constant that is a text.
_NAME, _TEXT_VALUE = 1 << 3 | _BYTES, _TEXT_CONSTANT << 3 | _BYTES


class Unsigned(int):
    """The value of a constant like `7u`, which is of another type than 7."""


class Term(NamedTuple):
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
            if term.parts:
                pending += term.parts[::-1]

    @property
    def text(self) -> str | None:
        """The value of a text constant, None of anything else."""
        is_text = self.kind == CONSTANT and isinstance(self.value, str)
        return self.value if is_text else None


def decode(serialized: bytes) -> Term:
    """The tree of a serialized checked expression (wrapped in `Any`).

    Thousands are read at a load. So what is frequent is read where it stands, in one go: nearly
    every tag, length and number is one byte long.
    """
    data = dict(_members(serialized)).get(2, b"")
    at, end = 0, len(data)
    begin = stop = 0
    offsets: dict[int, int] = {}
    while at < end:
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= 0x80:
            length, at = _varint(data, at - 1)
        if tag == _EXPRESSION:
            begin, stop = at, at + length
        elif tag == _SOURCE:
            _read_offsets(data[at : at + length], offsets)
        at += length
    return _term(data, begin, stop, offsets)


def _read_offsets(source: bytes, offsets: dict[int, int]) -> None:
    """Where each term stands, by its id."""
    for number, entry in _members(source):
        if number == 4:
            if len(entry) == 4 and entry[1] < 0x80 > entry[3]:  # two numbers of one byte each
                offsets[entry[1]] = entry[3]
            else:
                pair = dict(_members(entry))
                offsets[pair.get(1, 0)] = pair.get(2, 0)


def _term(data: bytes, at: int, end: int, offsets: dict[int, int]) -> Term:
    """The expression that stands from `at` to `end`: its id, and what it is."""
    identity = kind = begin = stop = 0
    while at < end:
        tag, number = data[at], data[at + 1]
        at += 2
        if number >= 0x80:
            number, at = _varint(data, at - 1)
        if tag == _ID:
            identity = number
        else:
            kind, begin, stop = tag >> 3, at, at + number
            at = stop
    read = _READERS.get(kind)
    if read is None:
        return Term(CONSTANT, offsets.get(identity, 0))
    name, value, parts = read(data, begin, stop, offsets)
    # What `Term(…)` does, without the step in between.
    return tuple.__new__(Term, (kind, offsets.get(identity, 0), name, value, parts))


_Offsets = dict[int, int]
#: Name, value and parts of a term.
_Read = tuple[str, Any, tuple[Term, ...]]


def _call(data: bytes, at: int, end: int, offsets: _Offsets) -> _Read:
    name, has_target, parts = "", False, []
    while at < end:
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= 0x80:
            length, at = _varint(data, at - 1)
        stop = at + length
        if tag == _ARGUMENT:
            parts.append(_term(data, at, stop, offsets))
        elif tag == _FUNCTION:
            name = _text(data[at:stop])
        elif tag == _TARGET:
            has_target = True
            parts.insert(0, _term(data, at, stop, offsets))
        at = stop
    return name, has_target, tuple(parts)


def _select(data: bytes, at: int, end: int, offsets: _Offsets) -> _Read:
    name, is_test = "", False
    parts: tuple[Term, ...] = ()
    while at < end:
        tag, number = data[at], data[at + 1]
        at += 2
        if number >= 0x80:
            number, at = _varint(data, at - 1)
        if tag == _IS_TEST:
            is_test = bool(number)
            continue
        stop = at + number
        if tag == _OPERAND:
            parts = (_term(data, at, stop, offsets),)
        elif tag == _FIELD:
            name = _text(data[at:stop])
        at = stop
    return name, is_test, parts


def _list(data: bytes, at: int, end: int, offsets: _Offsets) -> _Read:
    parts = [
        _term(member, 0, len(member), offsets)
        for number, member in _members(data[at:end])
        if number == 1
    ]
    return "", None, tuple(parts)


def _is_only(tag: int, data: bytes, at: int, end: int) -> bool:
    """Whether there is nothing but one text, of a length that one byte tells."""
    return end - at >= 2 and data[at] == tag and data[at + 1] == end - at - 2 < 0x80


def _identifier(data: bytes, at: int, end: int, offsets: _Offsets) -> _Read:
    if _is_only(_NAME, data, at, end):
        return _text(data[at + 2 : end]).removeprefix("."), None, ()
    name: bytes = dict(_members(data[at:end])).get(1, b"")
    return _text(name).removeprefix("."), None, ()


def _constant(data: bytes, at: int, end: int, offsets: _Offsets) -> _Read:
    if _is_only(_TEXT_VALUE, data, at, end):
        return "", _text(data[at + 2 : end]), ()
    for number, value in _members(data[at:end]):
        if number in _CONSTANTS:
            return "", _CONSTANTS[number](value), ()
    return "", None, ()


def _struct(data: bytes, at: int, end: int, offsets: _Offsets) -> _Read:
    name, parts = "", []
    for number, value in _members(data[at:end]):
        if number == 1:
            name = _text(value)
        elif number == 2:
            entry = _members(value)
            parts += [part for field in (3, 4) for one, part in entry if one == field]
    return name, None, tuple([_term(part, 0, len(part), offsets) for part in parts])


def _loop(data: bytes, at: int, end: int, offsets: _Offsets) -> _Read:
    members = dict(_members(data[at:end]))
    names = [_text(members.get(number, b"")) for number in (1, 8, 3)]
    parts = [members[number] for number in (2, 4, 5, 6, 7) if number in members]
    known = tuple(one for one in names if one)
    return names[0], known, tuple([_term(part, 0, len(part), offsets) for part in parts])


_READERS: dict[int, Callable[[bytes, int, int, _Offsets], _Read]] = {
    CONSTANT: _constant,
    IDENTIFIER: _identifier,
    SELECT: _select,
    CALL: _call,
    LIST: _list,
    STRUCT: _struct,
    LOOP: _loop,
}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _signed(raw: int) -> int:
    """A protobuf int64: negative values come as their two's complement."""
    return raw - (1 << 64) if raw >> 63 else raw


_CONSTANTS: dict[int, Callable[[Any], Any]] = {
    _NULL: lambda raw: None,
    _BOOLEAN: bool,
    _INTEGER: _signed,
    _UNSIGNED: Unsigned,
    _DOUBLE: float,
    _TEXT_CONSTANT: _text,
}


def _members(data: bytes) -> list[tuple[int, Any]]:
    """The fields of a message in order of appearance: numbers, and bytes of texts and messages."""
    found: list[tuple[int, Any]] = []
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, at - 1)
        wire = tag & 7
        value: Any
        if wire == _BYTES:
            length = data[at]
            at += 1
            if length >= 0x80:
                length, at = _varint(data, at - 1)
            value = data[at : at + length]
            at += length
        elif wire == _VARINT:
            value = data[at]
            at += 1
            if value >= 0x80:
                value, at = _varint(data, at - 1)
        elif wire == _FIXED64:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif wire == _FIXED32:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError(f"wire type {wire} in a checked expression")
        found.append((tag >> 3, value))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
