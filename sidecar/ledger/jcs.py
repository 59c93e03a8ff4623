"""RFC 8785 (JSON Canonicalization Scheme): one text for one JSON value, whoever writes it.

Knows: members sorted by the UTF-16 code units of their names, numbers as ECMAScript writes them,
strings raw but for `"`, `\\` and controls. Most values have no number with a fraction and plain
names; for those it is what orjson writes, sorted.
Must not know: what is hashed, and why. Receipts and arguments have their own forms (canonical).
"""

from __future__ import annotations

import math
from typing import Any, Final

import orjson

from sidecar.ledger.canonical import NotCanonical

_LONG: Final = orjson.OPT_SORT_KEYS
_OPTIONS: Final = _LONG | orjson.OPT_STRICT_INTEGER
#: Numbers from here on, and below 10^-6, have an exponent (ECMA-262, Number::toString).
_PLAIN_DIGITS_MAX: Final = 21
_PLAIN_ZEROS_MAX: Final = 6


def jcs(value: Any, *, has_long_integers: bool = False) -> bytes:
    """The canonical text of a value as `orjson.loads` gives it; with `has_long_integers` integers
    of up to 64 bits keep all their digits, which RFC 8785 would round.

    Raises NotCanonical for what I-JSON cannot say: NaN, infinities, lone surrogates, integers
    beyond ±(2^53 - 1) or beyond 64 bits, names that are no strings.
    """
    option = _LONG if has_long_integers else _OPTIONS
    try:
        if _is_plain(value):
            return orjson.dumps(value, option=option)
        return _written(value, option).encode()
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonical(str(error)) from error


def _is_plain(value: Any) -> bool:
    """Whether orjson writes it as RFC 8785 does."""
    left = [value]
    while left:
        item = left.pop()
        kind = type(item)
        if kind is float:
            return False
        if kind is dict:
            if not all(type(name) is str and name.isascii() for name in item):
                return False
            left += item.values()
        elif kind is list:
            left += item
    return True


def _written(value: Any, option: int) -> str:
    if type(value) is dict:
        names = sorted(value, key=_code_units)
        members = [f"{_plain(name, option)}:{_written(value[name], option)}" for name in names]
        return f"{{{','.join(members)}}}"
    if type(value) is list:
        return f"[{','.join([_written(one, option) for one in value])}]"
    return _number(value) if type(value) is float else _plain(value, option)


def _plain(value: Any, option: int) -> str:
    return orjson.dumps(value, option=option).decode()


def _code_units(name: Any) -> bytes:
    if type(name) is not str:
        raise NotCanonical("a member's name is no string")
    return name.encode("utf-16-be")


def _number(value: float) -> str:
    """ECMA-262, Number::toString: the fewest digits that read back as the same double."""
    if not math.isfinite(value):
        raise NotCanonical("a number is NaN or infinite")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = f"{whole}{fraction}".lstrip("0")
    # Where the point stands, counted from before the first digit.
    point = len(whole) + int(exponent or 0) - (len(whole) + len(fraction) - len(digits))
    digits = digits.rstrip("0")
    return sign + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= _PLAIN_DIGITS_MAX:
        return digits + "0" * (point - count)
    if 0 < point <= _PLAIN_DIGITS_MAX:
        return f"{digits[:point]}.{digits[point:]}"
    if -_PLAIN_ZEROS_MAX < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
