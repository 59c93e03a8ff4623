"""Masking of JSON values: what stands under paths, and what detectors find in any text.

Knows: that a path goes through lists to each of their members; that names are texts too; that a
number can be a card number. Values are never changed in place.
Must not know: HTTP, where a value came from, what becomes of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sidecar.policy.terms import Redaction
from sidecar.proxy.detectors import MASK, mask
from sidecar.proxy.strict_json import holds_more

DEPTH_MAX: Final = 256
#: Of a document; to read more, in a thread of its own too, would hold up every other call.
VALUES_MAX: Final = 250_000


class NotMaskable(Exception):
    """A document that cannot be judged; the message is for operators."""


def masked(value: Any, paths: Sequence[tuple[str, ...]], detectors: Sequence[str]) -> Any:
    """The value with what the paths lead to, and what the detectors find, masked.

    `paths` begin below the value. Raises NotMaskable for a value that is nested too deep.
    """
    for path in paths:
        value = _without(value, path, 0)
    return _searched(value, tuple(detectors), 0) if detectors else value


def masked_json(data: bytes, redaction: Redaction) -> bytes:
    """A JSON document masked and written anew: what is sent is exactly what was looked at, names
    that are there twice included. Raises NotMaskable for what is no JSON."""
    value = read_json(data)
    return write_json(masked(value, below(redaction.paths), redaction.detectors))


def below(paths: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Paths without the name they begin with."""
    return tuple(path[1:] for path in paths)


def read_json(data: bytes | str) -> Any:
    """A document as a value, integers exact. Raises NotMaskable."""
    if len(data) > VALUES_MAX:
        raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
        if holds_more(raw, VALUES_MAX):
            raise NotMaskable(f"it holds more than {VALUES_MAX} values")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise NotMaskable(f"no JSON: {type(error).__name__}") from error


def write_json(value: Any) -> bytes:
    """A value as a document in ASCII. Raises NotMaskable."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotMaskable(f"cannot be written: {type(error).__name__}") from error


def _no_number(name: str) -> None:
    raise ValueError(name)


def _without(value: Any, path: tuple[str, ...], depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise NotMaskable("nested too deep")
    if not path:
        return MASK
    if isinstance(value, list):
        return [_without(one, path, depth + 1) for one in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    return {**value, path[0]: _without(value[path[0]], path[1:], depth + 1)}


def _searched(value: Any, detectors: tuple[str, ...], depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise NotMaskable("nested too deep")
    if isinstance(value, str):
        return mask(value, detectors)
    if isinstance(value, dict):
        return {
            mask(name, detectors): _searched(one, detectors, depth + 1)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_searched(one, detectors, depth + 1) for one in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = repr(value)
        return value if mask(text, detectors) == text else MASK
    return value
