"""Canonical bytes: one value, one text, so that a hash speaks for the value.

Knows: the canonical form of receipts and that of arguments. Both are compact UTF-8 JSON with
sorted keys, written by orjson: strings raw but for `"`, `\\` and controls, in their short forms.

- Receipts hold strings, null and integers within ±(2^53 - 1), under ASCII keys. For those the
  form is RFC 8785, byte for byte.
- Arguments may hold any JSON. Keys are sorted by code point, and a number keeps its kind:
  integers in plain digits, floats with the fewest digits that read back as the same double and
  always with a `.` or an exponent. RFC 8785 differs in exactly three places: it sorts keys beyond
  U+FFFF by their UTF-16 code units, writes 1.0 as 1 and -0.0 as 0, and begins exponents elsewhere
  (1e-6 and 1e+16 there are 0.000001 and 10000000000000000). One pass in native code matters here:
  a form that walks the arguments would let a caller stall the process with a long list.

Must not know: what is hashed, and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

#: The greatest integer every JSON reader holds exactly (RFC 7493 section 2.2, RFC 8785).
INTEGER_MAX = 2**53 - 1

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


class NotCanonical(ValueError):
    """The value has no canonical form; the message says what stands in the way."""


def canonical_body(body: Mapping[str, str | int | None]) -> bytes:
    """The bytes of a receipt's body.

    Raises NotCanonical for a string that is not Unicode text or an integer beyond ±(2^53 - 1).
    """
    return _dumps(body)


def canonical_arguments(values: Mapping[str, Any]) -> bytes:
    """The bytes of a call's (redacted) arguments.

    Raises NotCanonical for what is not JSON: NaN and infinities, lone surrogates, integers beyond
    ±(2^53 - 1), keys that are no strings, values nested too deeply.
    """
    text = _dumps(values)
    if b"null" in text and has_unwritable_float(values):
        raise NotCanonical("a number is NaN or infinite")
    return text


def _dumps(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        raise NotCanonical(str(error)) from error


def has_unwritable_float(value: object) -> bool:
    """Whether a NaN or infinity hides in there, which orjson writes as null."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, (list, tuple)):
            left.extend(item)
    return False
