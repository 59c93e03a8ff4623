"""Every way of tampering with receipts that were signed for, by chance; and that each is found.

By bytes, by whole receipts, or by somebody who writes the history anew, hashes and links and all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from ledger_setup import line_of
from ledger_tree_reference import anchored_at
from ledger_vectors import hash_of

from sidecar.ledger.anchors import TrustedKey, anchored, watch_for
from sidecar.ledger.checkpoint_file import Kept
from sidecar.ledger.verify import verify_lines


def forged(lines: list[bytes], edit: Callable[[list[dict[str, object]]], object]) -> list[bytes]:
    """A history written anew by somebody who can hash, from its first change on."""
    bodies = [{k: v for k, v in json.loads(one).items() if k != "receipt_hash"} for one in lines]
    edit(bodies)
    prev, found = "", []
    for seq, body in enumerate(bodies, 1):
        body |= {"seq": seq, "prev_receipt_hash": prev}
        prev = hash_of(body)
        found.append(line_of(body, prev))
    return found


def tampered_with(
    lines: list[bytes], heads: list[Kept], public: bytes, count: int, seed: int = 7
) -> None:
    """Tampers so many times; raises AssertionError unless the verifier finds each, and a second one
    those that are chains by themselves."""
    chance = random.Random(seed)
    signed = max(kept.checkpoint.size for kept in heads)
    notes = [kept.note.whole for kept in heads]
    whole = [json.loads(one) for one in lines]
    for number in range(count):
        changed = tampered(lines, whole, signed, chance)
        watch = watch_for(heads)
        verdict = verify_lines(changed, watch=watch)
        found = verdict.fault or anchored(verdict, watch, heads, [TrustedKey(public)]).fault
        assert found is not None, (number, changed)
        if verdict.fault is None:
            bodies = [canonical(one) for one in changed]
            try:
                anchored_at(bodies, notes, public)
            except ValueError:
                continue
            raise AssertionError((number, changed))
    watch = watch_for(heads)
    verdict = verify_lines(lines, watch=watch)
    assert anchored(verdict, watch, heads, [TrustedKey(public)]).size == signed, "positive control"


def canonical(line: bytes) -> bytes:
    body = {k: v for k, v in json.loads(line).items() if k != "receipt_hash"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def tampered(
    lines: list[bytes], whole: list[dict[str, object]], signed: int, chance: random.Random
) -> list[bytes]:
    """One tampering with what was signed: of bytes, of whole receipts, or a history made anew."""
    at = chance.randrange(signed)
    found = list(lines)
    match chance.choice(["byte", "drop", "twice", "swap", "cut", "recut", "value", "insert"]):
        case "byte":
            text = bytearray(found[at])
            place = chance.randrange(len(text) - 1)
            text[place] ^= 1 << chance.randrange(8)
            found[at] = bytes(text)
            if found[at] == lines[at] or _same(found[at], lines[at]):
                del found[at]
        case "drop":
            del found[at]
        case "twice":
            found.insert(at, found[at])
        case "swap":
            found[at], found[at + 1] = found[at + 1], found[at]
        case "cut":
            del found[chance.randrange(1, signed) :]
        case "recut":
            found = forged(lines, lambda bodies: bodies.__delitem__(slice(at, at + 1)))
        case "value":
            key = chance.choice(["agent_id", "event_id", "tool", "resource", "decision"])
            found = forged(lines, lambda bodies: bodies[at].update({key: "x"}))
        case "insert":
            extra = {k: v for k, v in whole[at].items() if k != "receipt_hash"}
            found = forged(lines, lambda bodies: bodies.insert(at, {**extra, "user_id": "x"}))
    return found


def _same(one: bytes, other: bytes) -> bool:
    """A flipped bit may leave the same receipt: an escape written otherwise."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False
