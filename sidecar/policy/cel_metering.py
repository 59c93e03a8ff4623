"""A compiled expression with a meter put into its loops.

Knows: the protobuf form of a checked expression, as its neighbour `cel_tree` does, and how to write
it with a call of `aegis_tick(loop, filled)` before each turn of each loop, and with
`aegis_text(x, call)` in the place of a text `x` that a function is called on. Loops and calls are
counted in the order in which a walk of the tree meets them; `filled` is the length of the list that
a loop fills. What an expression gives stays the same, but for the errors of the meter.
Must not know: the CEL library, what a turn costs, how much is too much.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Final

#: The functions of the meter: one gives true, the other its text, or they are errors.
TICK: Final = "aegis_tick"
TEXT: Final = "aegis_text"

#: A field of a message: its number, its wire type, its number or its bytes.
_Field = tuple[int, int, Any]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# `Any` and `CheckedExpr`
_VALUE, _REFERENCES, _TYPES, _EXPRESSION = 2, 2, 3, 4
# `Expr` and its kinds
_ID, _CONSTANT, _IDENTIFIER, _SELECT, _CALL, _LIST, _STRUCT, _LOOP = 2, 3, 4, 5, 6, 7, 8, 9
_HELD: Final[dict[int, Container[int]]] = {_SELECT: (1,), _LIST: (1,)}
_TARGET, _NAME, _ARGUMENT = 1, 2, 3
_ENTRY, _HELD_BY_ENTRY = 2, (3, 4)
_ACCUMULATOR, _CONDITION, _HELD_BY_LOOP = 3, 5, (2, 4, 5, 6, 7)
# Types: `primitive` of BOOL, INT64 and STRING; `dyn`
_BOOLEAN_TYPE: Final = b"\x18\x01"
_INTEGER_TYPE: Final = b"\x18\x02"
_TEXT_TYPE: Final = b"\x18\x05"
_ANY_TYPE: Final = b"\x0a\x00"


def with_meter(serialized: bytes, fills: Container[int], texts: Container[str]) -> bytes:
    """The expression with a tick in each of its loops; `fills` are those that fill a list, `texts`
    the functions whose texts the meter is told of."""
    return _message(
        (number, wire, _checked(value, fills, texts) if number == _VALUE else value)
        for number, wire, value in _fields(serialized)
    )


def _checked(data: bytes, fills: Container[int], texts: Container[str]) -> bytes:
    fields = _fields(data)
    used = (dict(_pairs(value)).get(1, 0) for number, _, value in fields if number == _TYPES)
    writer = _Writer(max(used, default=0) + 1, fills, texts)
    written = [
        (number, wire, writer.expression(value) if number == _EXPRESSION else value)
        for number, wire, value in fields
    ]
    return _message([*written, *writer.notes])


class _Writer:
    """Writes expressions anew; `notes` are the functions and types of what it adds."""

    def __init__(self, first_id: int, fills: Container[int], texts: Container[str]) -> None:
        self.notes: list[_Field] = []
        self._next_id = first_id
        self._fills = fills
        self._texts = texts
        self._loops = self._calls = 0

    def expression(self, data: bytes) -> bytes:
        return _message(
            (number, wire, self._kind(number, value)) for number, wire, value in _fields(data)
        )

    def _kind(self, number: int, value: Any) -> Any:
        if number == _CALL:
            return self._called(value)
        if number in _HELD:
            return self._holder(value, _HELD[number])
        if number == _STRUCT:
            return _message(
                (field, wire, self._holder(one, _HELD_BY_ENTRY) if field == _ENTRY else one)
                for field, wire, one in _fields(value)
            )
        return self._loop(value) if number == _LOOP else value

    def _holder(self, data: bytes, held: Container[int]) -> bytes:
        return _message(
            (number, wire, self.expression(value) if number in held else value)
            for number, wire, value in _fields(data)
        )

    def _called(self, data: bytes) -> bytes:
        name = next(value for number, value in _pairs(data) if number == _NAME).decode()
        call = self._calls
        is_told = name in self._texts
        self._calls += is_told
        written: list[_Field] = []
        for number, wire, value in _fields(data):
            one = value
            if number in (_TARGET, _ARGUMENT):
                one = self.expression(value)
                if is_told:  # what it is called on comes first
                    one = self._call(TEXT, TEXT, _TEXT_TYPE, one, self._integer(call))
                    is_told = False
            written.append((number, wire, one))
        return _message(written)

    def _loop(self, data: bytes) -> bytes:
        loop, self._loops = self._loops, self._loops + 1
        fields = _fields(data)
        written: list[_Field] = []
        for number, wire, value in fields:
            one = self.expression(value) if number in _HELD_BY_LOOP else value
            if number == _CONDITION:
                filled = self._integer(0)
                if loop in self._fills:
                    name = dict(_pairs(data))[_ACCUMULATOR]
                    filled = self._call("size", "size_list", _INTEGER_TYPE, self._name(name))
                tick = self._call(TICK, TICK, _BOOLEAN_TYPE, self._integer(loop), filled)
                one = self._call("_&&_", "logical_and", _BOOLEAN_TYPE, tick, one)
            written.append((number, wire, one))
        return _message(written)

    def _new(self, kind: int, content: bytes, type_: bytes, reference: bytes = b"") -> bytes:
        number, self._next_id = self._next_id, self._next_id + 1
        if reference:
            note = _message([(1, _VARINT, number), (2, _BYTES, reference)])
            self.notes.append((_REFERENCES, _BYTES, note))
        note = _message([(1, _VARINT, number), (2, _BYTES, type_)])
        self.notes.append((_TYPES, _BYTES, note))
        return _message([(_ID, _VARINT, number), (kind, _BYTES, content)])

    def _call(self, name: str, overload: str, type_: bytes, *arguments: bytes) -> bytes:
        content = [(2, _BYTES, name.encode()), *((3, _BYTES, one) for one in arguments)]
        reference = _message([(3, _BYTES, overload.encode())])
        return self._new(_CALL, _message(content), type_, reference)

    def _integer(self, number: int) -> bytes:
        return self._new(_CONSTANT, _message([(3, _VARINT, number)]), _INTEGER_TYPE)

    def _name(self, name: bytes) -> bytes:
        content = _message([(1, _BYTES, name)])
        return self._new(_IDENTIFIER, content, _ANY_TYPE, _message([(1, _BYTES, name)]))


def _pairs(data: bytes) -> list[tuple[int, Any]]:
    return [(number, value) for number, _, value in _fields(data)]


def _fields(data: bytes) -> list[_Field]:
    fields: list[_Field] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: Any
        if wire == _VARINT:
            value, at = _varint(data, at)
        else:
            length = 8 if wire == _FIXED64 else 4
            if wire == _BYTES:
                length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        fields.append((tag >> 3, wire, value))
    return fields


def _message(fields: Iterable[_Field]) -> bytes:
    written = bytearray()
    for number, wire, value in fields:
        written += _as_varint(number << 3 | wire)
        if wire == _VARINT:
            written += _as_varint(value)
        elif wire == _BYTES:
            written += _as_varint(len(value)) + value
        else:
            written += value
    return bytes(written)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _as_varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
