"""aegis-jcs-1: the canonical action of a call that is not HTTP, and its hash. Pure.

Knows: exactly five members (action, mutates_state, parameters, resource, tool), texts as they were
sent and in no other form; compact UTF-8 JSON with names sorted by code point, strings raw but for
`"`, `\\` and controls; numbers as Python writes them (1.0, 1e-05, 1e+16, -0.0), because clients
hash the action on their side with `json.dumps(sort_keys=True, separators=(",", ":"),
ensure_ascii=False, allow_nan=False)` and compare. No Unicode normalisation. The hash is SHA-256 in
lower-case hex, with nothing in front.
Must not know: who acts, what is decided, receipts.

orjson writes the same bytes but for some numbers with a fraction; a text that may hold one of those
is written by the standard library.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, Final

import orjson

from sidecar.ledger.canonical import NotCanonical, has_unwritable_float

CANON_VERSION: Final = "aegis-jcs-1"

_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
#: Where the two may write a float differently: an exponent, or zeros in front of small digits.
_MAY_DIFFER: Final = re.compile(rb"[0-9]e|0\.0000")
_ENCODER: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def action_bytes(
    tool: str, action: str, resource: str | None, mutates_state: bool, parameters: Any
) -> bytes:
    """The canonical action. `parameters` is any value of strict JSON.

    Raises NotCanonical for what has no such form: NaN and infinities, lone surrogates, integers
    beyond ±(2^53 - 1), names that are no strings, values nested too deep.
    """
    whole = {
        "action": action,
        "mutates_state": mutates_state,
        "parameters": parameters,
        "resource": resource,
        "tool": tool,
    }
    try:
        text = orjson.dumps(whole, option=_OPTIONS)
    except TypeError as error:
        raise NotCanonical(str(error)) from error
    if b"null" in text and has_unwritable_float(parameters):
        raise NotCanonical("a number is NaN or infinite")
    if _MAY_DIFFER.search(text) is None:
        return text
    return _ENCODER.encode(whole).encode()


def action_hash(
    tool: str, action: str, resource: str | None, mutates_state: bool, parameters: Any
) -> str:
    """The action's hash; raises as `action_bytes` does."""
    return sha256(action_bytes(tool, action, resource, mutates_state, parameters)).hexdigest()
