"""The offline verifier: reads exported lines, trusts nothing, names the first bad receipt.

Knows: the receipt body v1 and how a chain is linked. It needs no store, no key and no network,
and memory for one line. It proves that the lines are one unbroken history; not that the history
is the only one, nor that nothing was cut from its end: for that a signed checkpoint is needed,
and the verdict says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from sidecar.ledger.merkle import append, root
from sidecar.ledger.receipt import (
    BODY_KEYS,
    INTEGER_KEYS,
    INTEGER_MAX,
    KINDS,
    REQUIRED_KEYS,
    VERSION,
)

LINE_BYTES_MAX = 1024 * 1024
_HASH_LENGTH = 64
_CANONICAL = orjson.OPT_SORT_KEYS
_KEYS = frozenset(BODY_KEYS)
#: Keys an export may add beside the body; they are covered by commitments, not by the hash.
_BESIDE = frozenset({"receipt_hash", "salt", "arguments", "facts"})


class Unreadable(Exception):
    """The input is not a file of receipts at all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `first_bad` is None if all `count` receipts hold.

    `root` is the RFC 6962 root over all of them, "" unless the chain was given from its start.
    """

    count: int
    tenant_id: str
    first_seq: int
    last_seq: int
    head_hash: str
    root: str
    first_bad: str | None

    @property
    def holds(self) -> bool:
        """Whether every receipt and link is as it was written."""
        return self.first_bad is None


def verify_lines(lines: Iterable[bytes]) -> Verdict:
    """Verifies receipts oldest first.

    Raises Unreadable for input that is empty, or whose first line is no receipt.
    """
    chain = _Chain()
    number = 0
    for number, line in enumerate(lines, 1):
        fault = chain.take(line)
        if fault is not None:
            if number == 1 and chain.is_foreign:
                raise Unreadable(f"line 1: {fault}")
            return chain.verdict(f"line {number}, {chain.name()}: {fault}")
    if number == 0:
        raise Unreadable("the file is empty")
    return chain.verdict(None)


class _Chain:
    def __init__(self) -> None:
        self.count = 0
        self.tenant_id = ""
        self.first_seq = 0
        self.seq = 0
        self.hash = ""
        self.ts_us = 0
        self.frontier: list[bytes] = []
        self.is_foreign = False
        self._named: Any = None

    def name(self) -> str:
        """How to call the line last taken: by its own seq if it has one."""
        return f"receipt {self._named}" if self._named is not None else f"after {self.seq}"

    def verdict(self, first_bad: str | None) -> Verdict:
        is_whole = self.first_seq == 1
        return Verdict(
            self.count,
            self.tenant_id,
            self.first_seq,
            self.seq,
            self.hash,
            root(self.frontier).hex() if is_whole else "",
            first_bad,
        )

    def take(self, line: bytes) -> str | None:
        """Adds one line; gives what is wrong with it, None if it holds."""
        self._named = None
        body = _parse(line)
        if isinstance(body, str):
            self.is_foreign = True
            return body
        self._named = body.get("seq")
        claimed = body.pop("receipt_hash", None)
        fault = _shape_fault(body, claimed) or self._link_fault(body)
        if fault is not None:
            return fault
        canonical = orjson.dumps(body, option=_CANONICAL)
        digest = sha256(canonical).hexdigest()
        if digest != claimed:
            return f"its content does not match its hash (recomputed {digest})"
        self._advance(body, digest, canonical)
        return None

    def _link_fault(self, body: dict[str, Any]) -> str | None:
        if self.count == 0:
            if body["seq"] == 1 and body["prev_receipt_hash"] != "":
                return "the first receipt of a chain has no predecessor"
            return None
        if body["tenant_id"] != self.tenant_id:
            return f"it belongs to tenant {body['tenant_id']}, the chain to {self.tenant_id}"
        if body["seq"] != self.seq + 1:
            return f"receipt {self.seq + 1} is expected here"
        if body["prev_receipt_hash"] != self.hash:
            return f"it does not link to receipt {self.seq}"
        if body["ts_us"] < self.ts_us:
            return "its time is before that of the receipt before it"
        return None

    def _advance(self, body: dict[str, Any], digest: str, canonical: bytes) -> None:
        if self.count == 0:
            self.tenant_id, self.first_seq = body["tenant_id"], body["seq"]
        if self.first_seq == 1:
            append(self.frontier, self.seq, sha256(b"\x00" + canonical).digest())
        self.count += 1
        self.seq, self.hash, self.ts_us = body["seq"], digest, body["ts_us"]


def _parse(line: bytes) -> dict[str, Any] | str:
    """The line's object, or what is wrong with it. A key twice is refused: readers differ."""
    if len(line) > LINE_BYTES_MAX:
        return f"the line is longer than {LINE_BYTES_MAX} bytes"
    if not line.endswith(b"\n"):
        return "the line is cut off: it does not end in a newline"
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "it is not JSON"
    if not isinstance(value, dict):
        return "it is not a JSON object"
    if orjson.dumps(value, option=_CANONICAL) != line[:-1] and _has_twin_keys(line):
        return "it names a key twice"
    return value


def _has_twin_keys(line: bytes) -> bool:
    twins = False

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twins
        found = dict(members)
        twins = twins or len(found) != len(members)
        return found

    json.loads(line, object_pairs_hook=pairs)
    return twins


def _shape_fault(body: dict[str, Any], claimed: Any) -> str | None:
    """Whether the line has exactly the keys and kinds of value a receipt has."""
    for key in body.keys() - _KEYS:
        if key not in _BESIDE:
            return f"unknown key {key!r}"
        del body[key]
    if len(body) != len(_KEYS):
        return f"key {min(_KEYS - body.keys())!r} is missing"
    if not (isinstance(claimed, str) and len(claimed) == _HASH_LENGTH):
        return "its receipt_hash is missing or malformed"
    fault = next(filter(None, (_value_fault(key, body[key]) for key in BODY_KEYS)), None)
    if fault is not None:
        return fault
    if body["v"] != VERSION:
        return f"version {body['v']} is not known"
    if body["kind"] not in KINDS:
        return f"kind {body['kind']!r} is not known"
    return None if body["seq"] >= 1 else "seq is not positive"


def _value_fault(key: str, value: Any) -> str | None:
    if value is None:
        return f"{key} is null" if key in REQUIRED_KEYS else None
    if key not in INTEGER_KEYS:
        return None if type(value) is str else f"{key} is not a string"
    if type(value) is not int or abs(value) > INTEGER_MAX:
        return f"{key} is not an integer within ±2^53"
    return None
