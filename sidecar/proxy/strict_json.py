"""Strict JSON: what one reader could read differently from another is refused, never repaired.

Knows: I-JSON (RFC 7493) made strict: UTF-8 without BOM, unique member names, no NaN, infinity or
overflow, integers within ±(2^53 - 1), no digits that a double drops, no NUL, no lone surrogates,
bounded depth, a bounded number of values, one document.
Must not know: HTTP, tools, what the values mean. The caller bounds the size.

How it is fast: orjson already refuses bad UTF-8, a BOM, lone surrogates, NaN, overflowing floats
and trailing data. What it lets through (the last of two equal names wins, an integer too long
becomes a float, NUL) is settled by a round trip: a text that equals the serialisation of its own
value cannot hold a name twice, nor a number that changed. Other texts (with blanks, with other
escapes) are weighed: names in the value against colons outside strings in the text, and of the
numbers that are long and not written as we write them, each.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import orjson

from sidecar.errors import Refused
from sidecar.policy.exact_numbers import INTEGER_MAX, LOSSY_DIGITS, is_exact
from sidecar.policy.marks import with_few_marks

#: Values of a document whose reader has no bound of its own for them.
VALUES_MAX = 1_000_000

_STRICT = orjson.OPT_STRICT_INTEGER
_NUL_ESCAPE = b"\\u0000"
_BLANKS = b" \t\r\n"
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_DIGITS_TO_ZERO = bytes.maketrans(b"0123456789", b"0000000000")
_FLOAT_DIGITS = 19  # the fewest digits of an integer that orjson makes a float
_LONG_INTEGER_LENGTH_MAX = 20  # of one of 64 bits, with its sign
_MANY_DIGITS = b"0" * LOSSY_DIGITS
#: A number of so many digits, with its fraction and its exponent.
_LONG_NUMBER = re.compile(
    rb"(?<![0-9.eE+-])-?(?=(?:\.?[0-9]){%d})[0-9]++(\.[0-9]++)?([eE][+-]?[0-9]++)?" % LOSSY_DIGITS
)


def parse(
    body: bytes, depth_max: int, values_max: int = VALUES_MAX, *, has_long_integers: bool = False
) -> Any:
    """The value of the one JSON document in `body`; with `has_long_integers` whole numbers have up
    to 64 bits, for what nobody calculates with.

    `values_max` bounds what takes time to read, and not only to receive: what stands in its objects
    and lists, and these. Raises Refused: invalid_json, too_many_values; the reason names the kind
    of fault and none of the content, the parser's own words stand in `detail` for operators.
    """
    if holds_more(body, values_max):
        raise Refused("too_many_values", f"The JSON holds more than {values_max} values")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused("invalid_json", "The body is not valid JSON", detail=str(error)) from None
    if body.count(b"{") + body.count(b"[") > depth_max:
        _refuse_depth(body, depth_max)
    if _NUL_ESCAPE in body:
        _refuse_nul(value)
    try:
        written = orjson.dumps(value, option=None if has_long_integers else _STRICT)
    except TypeError as error:
        raise _integer_refused(str(error)) from None
    if not (written == body and body.isascii()):
        _refuse_hidden_differences(body, value, written, has_long_integers)
    return value


def holds_more(text: bytes, values_max: int) -> bool:
    """Whether JSON holds more values than this, told before anything is made of them: a list that
    holds nothing takes two bytes, and 56 once it is read. What only begins like JSON counts as far
    as a reader gets."""
    if len(text) <= values_max:  # a value has a bracket or a comma of its own
        return False
    if _marks_of_values(text) <= values_max:
        return False
    return _marks_of_values(_outside_strings(text)) > values_max


def _marks_of_values(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _refuse_depth(body: bytes, depth_max: int) -> None:
    """Takes the innermost pairs of brackets away, one level a round."""
    brackets = _outside_strings(body).translate(_ONE_KIND_OF_BRACKET, _NO_BRACKETS)
    for _ in range(depth_max):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise Refused("invalid_json", f"JSON is nested deeper than {depth_max}")


def _refuse_nul(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is str and "\0" in item:
            raise Refused("invalid_json", "JSON text holds a NUL character")
        if kind is dict:
            stack += item.keys()
            stack += item.values()
        elif kind is list:
            stack += item


def _refuse_hidden_differences(
    body: bytes, value: Any, written: bytes, has_long_integers: bool
) -> None:
    outside = _outside_strings(body)
    objects = _objects(value)
    if sum(map(len, objects)) != outside.count(b":"):
        raise Refused("invalid_json", "A JSON object names a member twice")
    if not body.isascii() or b"\\u" in body:
        _refuse_equal_after_nfc(objects)
    if _MANY_DIGITS in outside.translate(_DIGITS_TO_ZERO, b"."):
        doubtful = _written_otherwise(outside, _outside_strings(written))
        _refuse_rounded_numbers(doubtful, has_long_integers)


def _outside_strings(body: bytes) -> bytes:
    """`body`, which is valid JSON, without its string contents.

    A backslash stands in strings only. A run of them pairs up from the left, so that taking the
    pairs away first leaves a backslash before a quote exactly where the quote is escaped.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b'"'.join(body.split(b'"')[::2])


def _objects(value: Any) -> list[dict[str, Any]]:
    """All objects in `value`, at any depth."""
    found: list[dict[str, Any]] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            found.append(item)
            children: Any = item.values()
        elif type(item) is list:
            children = item
        else:
            continue
        for child in children:
            if type(child) is dict or type(child) is list:
                stack.append(child)
    return found


def _refuse_equal_after_nfc(objects: list[dict[str, Any]]) -> None:
    """Most objects of a document have the same names, so each name is looked at once."""
    others: dict[str, str] = {}
    for name in set().union(*objects):
        if name.isascii():
            continue
        if with_few_marks(name) is not name:
            raise Refused("invalid_json", "A name of a JSON object has too many marks in a row")
        normal = unicodedata.normalize("NFC", name)
        if normal != name:
            others[name] = normal
    if not others:  # each is its own form, so two that differ differ in form
        return
    for members in objects:
        if others.keys().isdisjoint(members):
            continue
        if len({others.get(name, name) for name in members}) != len(members):
            raise Refused("invalid_json", "Two names of a JSON object differ only in Unicode form")


def _written_otherwise(outside: bytes, written: bytes) -> bytes:
    """What stands between two commas and is not as we write it: most numbers of most clients are,
    and need no look. Both are of one value, so they have the same commas."""
    pieces = zip(outside.translate(None, _BLANKS).split(b","), written.split(b","), strict=True)
    return b",".join(piece for piece, ours in pieces if piece != ours)


def _refuse_rounded_numbers(outside: bytes, has_long_integers: bool) -> None:
    """Integers that orjson kept as such were judged by OPT_STRICT_INTEGER already."""
    for found in _LONG_NUMBER.finditer(outside):
        if found[1] is None and found[2] is None:
            is_short = len(found[0]) <= _LONG_INTEGER_LENGTH_MAX
            if has_long_integers and is_short and -(2**63) <= int(found[0]) < 2**64:
                continue
            if len(found[0].lstrip(b"-")) >= _FLOAT_DIGITS:
                raise _integer_refused("literal out of range")
        elif not is_exact(found[0].decode()):
            raise Refused("invalid_json", "A JSON number has more digits than a double holds")


def _integer_refused(detail: str) -> Refused:
    return Refused("invalid_json", f"A JSON integer is beyond ±{INTEGER_MAX}", detail=detail)
