"""Lines of JSON (NDJSON), as bulk requests are made of: each line one document, read strictly.

Knows: what readers take for the end of a line; every line is held to what one document is
(`strict_json`), and all together to the bounds of one.
Must not know: HTTP, media types, what the values mean. The caller bounds the size.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.errors import Refused
from sidecar.proxy.strict_json import holds_more, parse

#: What Python's `splitlines` and its like end a line at, and JSON lets stand in a text: U+0085,
#: U+2028, U+2029. The other controls may not stand there.
_OTHER_ENDS: Final = (b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")


def parse_lines(body: bytes, depth_max: int, values_max: int) -> list[Any]:
    """The value of each line, in order; raises Refused: invalid_json, too_many_values."""
    lines = body.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if len(lines) > values_max or holds_more(body, values_max):
        raise Refused("too_many_values", f"The JSON holds more than {values_max} values")
    if body.count(b"\r") != body.count(b"\r\n") or any(end in body for end in _OTHER_ENDS):
        raise Refused("invalid_json", "A line of JSON holds what some readers take for its end")
    if any(not line.strip() for line in lines):
        raise Refused("invalid_json", "A line of JSON is empty")
    return [parse(line, depth_max, values_max) for line in lines]
