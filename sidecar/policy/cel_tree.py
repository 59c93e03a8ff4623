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


class Unsigned(int):
    """The value of a constant like `7u`, which is of another type than 7."""


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: The tags of an entry that says where a term stands; nearly always its two numbers are one byte
#: each.
_ID_AND_OFFSET = b"\x08\x10"
#: The tag of an expression's id.
_ID = b"\x10"
#: The tags of what a call has.
_TARGET, _FUNCTION, _ARGUMENT = 0x0A, 0x12, 0x1A


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
    """The tree of a serialized checked expression (wrapped in `Any`)."""
    checked = dict(_members(dict(_members(serialized)).get(2, b"")))
    offsets: dict[int, int] = {}
    for number, entry in _members(checked.get(5, b"")):
        if number == 4 and entry[::2] == _ID_AND_OFFSET and entry[1] < 0x80 > entry[3]:
            offsets[entry[1]] = entry[3]
        elif number == 4:
            pair = dict(_members(entry))
            offsets[pair.get(1, 0)] = pair.get(2, 0)
    return _term(checked.get(4, b""), offsets)


def _term(data: bytes, offsets: dict[int, int]) -> Term:
    identity, kind, content = _opened(data)
    offset = offsets.get(identity, 0)
    if not kind:
        return Term(CONSTANT, offset)
    name, value, parts = _READERS[kind](content)
    return Term(kind, offset, name, value, tuple([_term(part, offsets) for part in parts]))


def _opened(data: bytes) -> tuple[int, int, bytes]:
    """The id, the kind and the content of an expression. Nearly always it is the id in one byte,
    then a kind, and the content is the rest."""
    if data[:1] == _ID and len(data) > 3 and data[1] < 0x80:
        length, at = data[3], 4
        if length >= 0x80:
            length, at = _varint(data, 3)
        if at + length == len(data) and data[2] >> 3 in _READERS:
            return data[1], data[2] >> 3, data[at:]
    identity, kind, content = 0, 0, b""
    for number, value in _members(data):
        if number == 2:
            identity = value
        elif number in _READERS:
            kind, content = number, value
    return identity, kind, content


#: The fields of a message, in order of appearance: numbers, and bytes of texts and messages.
_Members = list[tuple[int, Any]]
_Read = tuple[str, Any, list[bytes]]


def _constant(content: bytes) -> _Read:
    for number, value in _members(content):
        if number in _CONSTANTS:
            return "", _CONSTANTS[number](value), []
    return "", None, []


def _signed(raw: int) -> int:
    """A protobuf int64: negative values come as their two's complement."""
    return raw - (1 << 64) if raw >> 63 else raw


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


_CONSTANTS: dict[int, Callable[[Any], Any]] = {
    _NULL: lambda raw: None,
    _BOOLEAN: bool,
    _INTEGER: _signed,
    _UNSIGNED: Unsigned,
    _DOUBLE: float,
    _TEXT_CONSTANT: _text,
}


def _identifier(content: bytes) -> _Read:
    name = dict(_members(content)).get(1, b"")
    return _text(name).removeprefix("."), None, []


def _select(content: bytes) -> _Read:
    name, is_test, parts = "", False, []
    for number, value in _members(content):
        if number == 1:
            parts.append(value)
        elif number == 2:
            name = _text(value)
        elif number == 3:
            is_test = bool(value)
    return name, is_test, parts


def _call(content: bytes) -> _Read:
    """All that a call has are texts and messages, so there is less to tell apart."""
    name, has_target = "", False
    parts: list[bytes] = []
    at, end = 0, len(content)
    while at < end:
        tag, length = content[at], content[at + 1]
        at += 2
        if length >= 0x80:
            length, at = _varint(content, at - 1)
        value = content[at : at + length]
        at += length
        if tag == _ARGUMENT:
            parts.append(value)
        elif tag == _FUNCTION:
            name = _text(value)
        elif tag == _TARGET:
            has_target = True
            parts.insert(0, value)
    return name, has_target, parts


def _list(content: bytes) -> _Read:
    return "", None, [value for number, value in _members(content) if number == 1]


def _struct(content: bytes) -> _Read:
    name, parts = "", []
    for number, value in _members(content):
        if number == 1:
            name = _text(value)
        elif number == 2:
            entry = _members(value)
            parts += [part for field in (3, 4) for one, part in entry if one == field]
    return name, None, parts


def _loop(content: bytes) -> _Read:
    by_number = dict(_members(content))
    names = [_text(by_number.get(number, b"")) for number in (1, 8, 3)]
    parts = [by_number[number] for number in (2, 4, 5, 6, 7) if number in by_number]
    return names[0], tuple(one for one in names if one), parts


_READERS = {
    CONSTANT: _constant,
    IDENTIFIER: _identifier,
    SELECT: _select,
    CALL: _call,
    LIST: _list,
    STRUCT: _struct,
    LOOP: _loop,
}


def _members(data: bytes) -> _Members:
    """The fields of a message. Written for speed: thousands of conditions are read at a load, and
    nearly every tag, length and number is one byte long."""
    found: _Members = []
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
