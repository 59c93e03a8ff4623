"""The offline verifier: reads exported lines, trusts nothing, names the first bad receipt.

Knows: the receipt body v1 and how a chain is linked. It needs no store, no key and no network,
and memory for one line. It proves that the lines are one unbroken history; not that it is the
only one, nor that nothing was cut from its end: for that a signed checkpoint is needed, and
whoever shows the verdict has to say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from sidecar.ledger.care import ROTATE_KEY
from sidecar.ledger.commitment import NO_FACTS, OF_CALLS, NotCommitted, is_vouched_for
from sidecar.ledger.liveness import Liveness, Silence, Unstopped
from sidecar.ledger.merkle import EMPTY_ROOT, append, root
from sidecar.ledger.receipt import BODY_KEYS, INTEGER_KEYS, KINDS, REQUIRED_KEYS, VERSION
from sidecar.ledger.rollback import tells_of_rollback
from sidecar.ledger.said_yes import SaidYes, Unsaid

#: A line is read whole: longer than any receipt with its arguments, short enough for memory.
LINE_BYTES_MAX = 256 * 1024 * 1024

_HASH = re.compile(r"[0-9a-f]{64}")
_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_KEYS = frozenset(BODY_KEYS)
#: Keys an export may add to a line; the hash does not cover them.
_BESIDE = ("salt", "arguments", "facts")
_SHOWN_MAX = 80
#: Rollbacks that a verdict spells out; of more it gives the number.
ROLLBACKS_SHOWN_MAX = 20
ROLLBACK_CHARACTERS_MAX = 400


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the first bad line, and the seq it gives itself, if it gives one.

    `is_unreadable` if the line is not even a JSON object, so that no receipt can be named.
    """

    line: int
    seq: int | None
    what: str
    is_unreadable: bool


@dataclass(frozen=True, slots=True)
class Rollback:
    """A receipt that owns up to a rollback, in its own words: they hold, what is lost does not."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: `count` receipts hold, and all of them if `fault` is None.

    `prev_hash` is what the first receipt links to: "" for a whole chain, otherwise to be compared
    with the head hash of the part before. `root` is the RFC 6962 root over the receipts of a whole
    chain, "" for a part of one. `rollbacks` are the first of `rollback_count` among the receipts,
    and so are `silences` and `unstopped` of what the receipts tell of their sidecar (`liveness`):
    `runs` and `promised_us` are what they say of it last, `last_us` is the time of the last.
    Of `facts` receipts facts were given; `unvouched` of these do not stand for them. `unsaid` are
    the first of `unsaid_count` calls that name somebody's yes of which no receipt tells.
    """

    count: int
    tenant_id: str
    first_seq: int
    last_seq: int
    prev_hash: str
    head_hash: str
    root: str
    fault: Fault | None
    rollback_count: int = 0
    rollbacks: tuple[Rollback, ...] = ()
    silence_count: int = 0
    silences: tuple[Silence, ...] = ()
    unstopped_count: int = 0
    unstopped: tuple[Unstopped, ...] = ()
    runs: bool | None = None
    promised_us: int = 0
    last_us: int = 0
    facts: int = 0
    unvouched: int = 0
    unsaid_count: int = 0
    unsaid: tuple[Unsaid, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every receipt and link is as it was written."""
        return self.fault is None


@dataclass(slots=True)
class Watch:
    """What is noted of a whole chain while it is read: its roots at these sizes, and the receipts
    that say that the signing key was changed."""

    sizes: frozenset[int]
    roots: dict[int, bytes] = field(default_factory=lambda: {0: EMPTY_ROOT})
    rotations: list[tuple[int, str | None]] = field(default_factory=list)


def verify_lines(
    lines: Iterable[bytes], *, first_seq: int = 1, watch: Watch | None = None
) -> Verdict:
    """Verifies receipts, oldest first; stops at the first bad one.

    `first_seq` is where the lines must begin: 1, unless they are said to be a later part. `watch`
    is filled for what is to be compared with signed heads.
    """
    chain = _Chain(first_seq, watch or Watch(frozenset()))
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            chain.take(line)
        except _Bad as bad:
            return chain.verdict(Fault(number, chain.named_seq, str(bad), bad.is_unreadable))
    if number == 0:
        return chain.verdict(Fault(1, None, "there are no receipts", True))
    return chain.verdict(None)


def read_receipt(line: bytes) -> dict[str, Any]:
    """One receipt by itself, with its hash, which is that of its content; no link is looked at.

    Raises ValueError with what is wrong.
    """
    try:
        body = _parsed(line, is_cut=False)
        _check_twin_keys(line)
        seq = body.get("seq")
        if type(seq) is not int or seq < 1:
            raise _Bad("seq is not that of a receipt")
        chain = _Chain(seq, Watch(frozenset()))
        chain.take(line + b"\n")
    except _Bad as error:
        raise ValueError(str(error)) from None
    return body


class _Bad(Exception):
    def __init__(self, what: str, *, is_unreadable: bool = False) -> None:
        super().__init__(what)
        self.is_unreadable = is_unreadable


class _Chain:
    def __init__(self, first_seq: int, watch: Watch) -> None:
        self.first_seq = first_seq
        self.watch = watch
        self.seq = first_seq - 1
        self.count = 0
        self.tenant_id = ""
        self.prev_hash = ""
        self.hash = ""
        self.ts_us = 0
        self.frontier: list[bytes] = []
        self.rollback_count = 0
        self.rollbacks: list[Rollback] = []
        self.liveness = Liveness()
        self.said_yes = SaidYes(is_whole=first_seq == 1)
        self.facts = self.unvouched = 0
        #: The seq that the line last taken gives itself.
        self.named_seq: int | None = None
        #: Patterns of value types that were found in order: there are few.
        self._sound_patterns: set[tuple[type, ...]] = set()

    def verdict(self, fault: Fault | None) -> Verdict:
        is_whole, liveness = self.first_seq == 1, self.liveness
        return Verdict(
            self.count,
            self.tenant_id,
            self.first_seq,
            self.seq,
            self.prev_hash,
            self.hash,
            root(self.frontier).hex() if is_whole else "",
            fault,
            self.rollback_count,
            tuple(self.rollbacks),
            liveness.silence_count,
            tuple(liveness.silences),
            liveness.unstopped_count,
            tuple(liveness.unstopped),
            liveness.runs,
            liveness.promised_us,
            self.ts_us,
            self.facts,
            self.unvouched,
            self.said_yes.count,
            tuple(self.said_yes.unsaid),
        )

    def take(self, line: bytes) -> None:
        """Adds one line; raises _Bad for what is wrong with it."""
        self.named_seq = None
        text = line.removesuffix(b"\n")
        body = _parsed(text, is_cut=text == line)
        seq = body.get("seq")
        self.named_seq = seq if type(seq) is int else None
        # What comes back as it was read cannot have lost a second value for a key.
        if orjson.dumps(body) != text:
            _check_twin_keys(text)
        claimed = body.pop("receipt_hash", None)
        beside = _take_beside(body) if len(body) > len(_KEYS) else None
        self._check_shape(body)
        canonical = _canonical(body)
        digest = sha256(canonical).hexdigest()
        if claimed is None:
            raise _Bad("key 'receipt_hash' is missing")
        if digest != claimed:
            raise _Bad(f"its content does not match its receipt_hash (recomputed: {digest})")
        self._check_link(body)
        if beside is not None:
            self._check_beside(body, beside)
        if self.first_seq == 1:
            append(self.frontier, self.seq, sha256(b"\x00" + canonical).digest())
            if body["seq"] in self.watch.sizes:
                self.watch.roots[body["seq"]] = root(self.frontier)
        if body["ts_us"] - self.ts_us > self.liveness.due_us:
            self.liveness.silent(self.seq, self.ts_us, body["ts_us"])
        if body["kind"] == "control":
            self._look_for_rollback(body)
            self.liveness.take(body)
            if body["action"] == ROTATE_KEY:
                self.watch.rotations.append((body["seq"], body["resource"]))
        elif body["approval_id"] is not None:
            said = beside or {}
            self.said_yes.take(
                body["seq"], body["kind"], body["action"], body["approval_id"], body["approver"],
                said.get("arguments"), said.get("facts"),
            )  # fmt: skip
        if self.count == 0:
            self.tenant_id, self.prev_hash = body["tenant_id"], body["prev_receipt_hash"]
        self.count += 1
        self.seq, self.hash, self.ts_us = body["seq"], digest, body["ts_us"]

    def _check_shape(self, body: dict[str, Any]) -> None:
        """Exactly the keys, and the kinds of value, that a receipt has."""
        pattern = tuple(map(type, body.values()))
        if tuple(body) != BODY_KEYS or pattern not in self._sound_patterns:
            _check_keys(body)
            for key in BODY_KEYS:
                _check_value(key, body[key])
            if tuple(body) == BODY_KEYS:
                self._sound_patterns.add(pattern)
        if body["v"] != VERSION:
            raise _Bad(f"version {body['v']} is not known")
        if body["kind"] not in KINDS:
            raise _Bad(f"kind {_shown(body['kind'])} is not known")

    def _check_beside(self, body: dict[str, Any], beside: dict[str, str | None]) -> None:
        """What is given must be what the receipt stands for; it may have been erased."""
        facts = beside.get("facts")
        try:
            is_vouched = is_vouched_for(
                beside.get("salt"),
                beside.get("arguments"),
                facts,
                args_commitment=body["args_commitment"],
                request_sha256=body["request_sha256"],
                resource=body["resource"] if body["kind"] in OF_CALLS else None,
            )
        except NotCommitted as error:
            raise _Bad(str(error)) from None
        self.facts += facts is not None and facts != NO_FACTS
        self.unvouched += not is_vouched

    def _look_for_rollback(self, body: dict[str, Any]) -> None:
        words = tells_of_rollback(body)
        if words is None:
            return
        self.rollback_count += 1
        if self.rollback_count <= ROLLBACKS_SHOWN_MAX:
            self.rollbacks.append(Rollback(body["seq"], words[:ROLLBACK_CHARACTERS_MAX]))

    def _check_link(self, body: dict[str, Any]) -> None:
        if body["seq"] != self.seq + 1:
            raise _Bad(f"receipt {self.seq + 1} is expected here")
        prev_hash = body["prev_receipt_hash"]
        if self.count == 0:
            if self.first_seq == 1:
                if prev_hash != "":
                    raise _Bad("the first receipt of a chain links to nothing, this one does")
            elif _HASH.fullmatch(prev_hash) is None:
                raise _Bad("its prev_receipt_hash is no hash")
            return
        if body["tenant_id"] != self.tenant_id:
            raise _Bad(f"it is tenant {_shown(body['tenant_id'])}'s, the chain is another's")
        if prev_hash != self.hash:
            raise _Bad(f"it does not link to receipt {self.seq}")
        if body["ts_us"] < self.ts_us:
            raise _Bad("its time is before that of the receipt before it")


def _parsed(text: bytes, *, is_cut: bool) -> dict[str, Any]:
    """The line's object; without its newline (`is_cut`) it may have lost its end."""
    if len(text) > LINE_BYTES_MAX:
        raise _Bad(f"the line is longer than {LINE_BYTES_MAX} bytes", is_unreadable=True)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        what = "the line is cut off" if is_cut else "the line is not JSON"
        raise _Bad(what, is_unreadable=True) from None
    if not isinstance(value, dict):
        raise _Bad("the line is not a JSON object", is_unreadable=True)
    return value


def _check_twin_keys(text: bytes) -> None:
    """A key that stands twice is refused: readers differ on which of the two counts."""

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) != len(members):
            names = [name for name, _ in members]
            twin = next(name for name in names if names.count(name) > 1)
            raise _Bad(f"key {_shown(twin)} stands twice")
        return found

    try:
        json.loads(text, object_pairs_hook=pairs, parse_int=str, parse_float=str)
    except RecursionError:
        raise _Bad("it is nested, a receipt is flat") from None


def _take_beside(body: dict[str, Any]) -> dict[str, str | None]:
    """Takes what may stand beside the body out of it."""
    beside: dict[str, str | None] = {}
    for key in _BESIDE:
        if key in body:
            value = beside[key] = body.pop(key)
            if value is not None and type(value) is not str:
                raise _Bad(f"{key} is not a string")
    return beside


def _check_keys(body: dict[str, Any]) -> None:
    foreign = sorted(body.keys() - _KEYS)
    if foreign:
        raise _Bad(f"key {_shown(foreign[0])} is unknown")
    missing = sorted(_KEYS - body.keys())
    if missing:
        raise _Bad(f"key {missing[0]!r} is missing")


def _check_value(key: str, value: Any) -> None:
    if value is None:
        if key in REQUIRED_KEYS:
            raise _Bad(f"{key} is null")
    elif key in INTEGER_KEYS:
        if type(value) is not int:
            raise _Bad(f"{key} is not an integer")
    elif type(value) is not str:
        raise _Bad(f"{key} is not a string")


def _canonical(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, option=_CANONICAL)
    except TypeError:
        raise _Bad("an integer is beyond ±(2^53 - 1)") from None


def _shown(text: str) -> str:
    """Foreign text for a message: quoted, controls escaped, cut."""
    return ascii(text[:_SHOWN_MAX])
