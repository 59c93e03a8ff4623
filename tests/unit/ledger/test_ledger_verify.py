"""F1: whatever is done to a line is found, and found at the right line."""

from __future__ import annotations

import hmac
import json
import random
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from ledger_setup import chain, draft, line_of, lines_of, reference_canonical

from sidecar.ledger.receipt import BODY_KEYS, Body, body_of, receipt_hash
from sidecar.ledger.verify import read_receipt, verify_lines
from storage.records import ReceiptRow

LENGTH = 40
TAMPERINGS = 1000
Lines = list[bytes]
#: Changes `lines` in place; gives the index at or before which a verifier must stop.
Tamper = Callable[[random.Random, Lines], int]


def rows() -> list[ReceiptRow]:
    drafts = [
        draft(
            number,
            user_id=f"zoé {number}\x1f" if number % 3 == 0 else None,
            tool="github/create_issue",
            decision="allow" if number % 2 else "deny",
            http_status=200 + number,
        )
        for number in range(1, LENGTH + 1)
    ]
    return chain(drafts)


def flip_a_byte(chance: random.Random, lines: Lines) -> int:
    at = chance.randrange(len(lines))
    text = bytearray(lines[at])
    where = chance.randrange(len(text) - 1)
    text[where] ^= 1 << chance.randrange(8)
    lines[at] = bytes(text)
    return at


def set_a_value(chance: random.Random, lines: Lines) -> int:
    at = chance.randrange(len(lines))
    value = json.loads(lines[at])
    key = chance.choice([*BODY_KEYS, "receipt_hash"])
    new = chance.choice([None, "", "x", 0, 1, -1, 2**53, 1.5, True, [], {}])
    value[key] = "other" if value[key] == new and type(value[key]) is type(new) else new
    lines[at] = dumped(value)
    return at


def rename_a_key(chance: random.Random, lines: Lines) -> int:
    at = chance.randrange(len(lines))
    value = json.loads(lines[at])
    key = chance.choice(sorted(value))
    value[key + "_"] = value.pop(key)
    lines[at] = dumped(value)
    return at


def delete(chance: random.Random, lines: Lines) -> int:
    at = chance.randrange(len(lines) - 1)
    del lines[at]
    return at


def delete_many(chance: random.Random, lines: Lines) -> int:
    at = chance.randrange(len(lines) - 1)
    del lines[at : chance.randrange(at + 1, len(lines))]
    return at


def duplicate(chance: random.Random, lines: Lines) -> int:
    at = chance.randrange(len(lines))
    to = chance.randrange(at + 1, len(lines) + 1)
    lines.insert(to, lines[at])
    return to


def swap(chance: random.Random, lines: Lines) -> int:
    first, second = sorted(chance.sample(range(len(lines)), 2))
    lines[first], lines[second] = lines[second], lines[first]
    return first


def forge_one(chance: random.Random, lines: Lines) -> int:
    """Edits a receipt and makes its own hash anew, but not the links after it."""
    at = chance.randrange(len(lines) - 1)
    body = json.loads(lines[at])
    del body["receipt_hash"]
    body[chance.choice(["decision", "tool", "agent_id", "action"])] = "forged"
    lines[at] = line_of(body, receipt_hash(body))
    return at + 1


def insert_forged(chance: random.Random, lines: Lines) -> int:
    """Puts a well-linked receipt in between."""
    at = chance.randrange(1, len(lines))
    body = json.loads(lines[at])
    del body["receipt_hash"]
    body["event_id"] = "f" * 32
    lines.insert(at, line_of(body, receipt_hash(body)))
    return at + 1


def cut_a_line(chance: random.Random, lines: Lines) -> int:
    at = chance.randrange(len(lines))
    lines[at] = lines[at][: chance.randrange(1, len(lines[at]) - 1)]
    return at


TAMPERS: tuple[Tamper, ...] = (
    flip_a_byte,
    set_a_value,
    rename_a_key,
    delete,
    delete_many,
    duplicate,
    swap,
    forge_one,
    insert_forged,
    cut_a_line,
)


def dumped(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def meaning(lines: Lines) -> list[Any] | None:
    """What the lines say; None if they are not JSON, and so say something else."""
    try:
        return [json.loads(line) for line in lines]
    except ValueError:
        return None


def test_f1_of_1000_random_tamperings_every_one_is_found_where_it_is() -> None:
    whole = lines_of(rows())
    assert verify_lines(whole).holds  # untouched, it verifies
    chance = random.Random(1)
    done = {tamper.__name__: 0 for tamper in TAMPERS}
    while sum(done.values()) < TAMPERINGS:
        tamper = chance.choice(TAMPERS)
        lines = list(whole)
        at = tamper(chance, lines)
        if meaning(lines) == meaning(whole):
            continue  # a hex digit of an escape changed its case: nothing was changed
        verdict = verify_lines(lines)
        assert verdict.fault is not None, (tamper, at)
        assert verdict.fault.line == at + 1, (tamper, at, verdict.fault)
        assert verdict.count == at
        done[tamper.__name__] += 1
    assert min(done.values()) > TAMPERINGS / len(TAMPERS) / 2
    assert verify_lines(whole).holds


def test_f2_a_cut_tail_holds_because_nothing_anchors_it() -> None:
    """What a chain alone cannot show; whoever shows the verdict has to say so."""
    whole = lines_of(rows())
    verdict = verify_lines(whole[:-3])
    assert verdict.holds and verdict.last_seq == LENGTH - 3
    assert verdict.head_hash != verify_lines(whole).head_hash


def test_f2_a_later_part_says_what_it_links_to() -> None:
    whole = rows()
    lines = lines_of(whole)
    before, after = verify_lines(lines[:10]), verify_lines(lines[10:], first_seq=11)
    assert after.holds and after.prev_hash == before.head_hash
    assert (after.first_seq, after.last_seq, after.root) == (11, LENGTH, "")
    assert not verify_lines(lines[10:], first_seq=10).holds
    assert not verify_lines(lines[10:]).holds


def test_f7_a_chain_verifies_with_facts_and_when_they_are_erased() -> None:
    salt, arguments = b"s" * 16, '{"title":"é"}'
    commitment = hmac.digest(salt, arguments.encode(), "sha256").hex()
    row = chain([draft(1, args_commitment=commitment)])[0]
    body = body_of(row, "")
    given = {"salt": salt.hex(), "arguments": arguments, "facts": "{}"}
    assert verify_lines([line_of(body | given, row.receipt_hash)]).holds
    for erased in (dict.fromkeys(given), {**given, "arguments": None}, {"facts": "{}"}):
        assert verify_lines([line_of(body | erased, row.receipt_hash)]).holds
    for forged, what in (
        ({"arguments": '{"title":"e"}'}, "arguments"),
        ({"salt": "00" * 16}, "arguments"),
        ({"salt": None}, "arguments"),
        ({"salt": "zz"}, "salt"),
        ({"facts": 7}, "facts"),
        ({"arguments": {}}, "arguments"),
    ):
        line = line_of(body | given | forged, row.receipt_hash)
        fault = verify_lines([line]).fault
        assert fault is not None and what in fault.what


def test_arguments_without_a_commitment_are_refused() -> None:
    row = chain([draft(1)])[0]
    beside: Body = {"salt": "00", "arguments": "{}"}
    assert not verify_lines([line_of(body_of(row, "") | beside, row.receipt_hash)]).holds


@pytest.mark.parametrize(
    "line",
    [
        b'{"seq":' + b"9" * 5000 + b"}\n",
        b'{"a":' + b"[" * 900 + b"]" * 900 + b',"a":1}\n',
        b"[" * 100_000 + b"\n",
        b'{"seq":1e999}\n',
        b"\x00\n",
        b'{"\\u001b[31m":1}\n',
        b"null\n",
    ],
    ids=lambda line: ascii(line[:12]),
)
def test_hostile_lines_are_faults_not_failures(line: bytes) -> None:
    fault = verify_lines([line]).fault
    assert fault is not None and fault.line == 1
    assert fault.what.isprintable()


@pytest.mark.serial
def test_verifying_is_quick() -> None:
    """150,000 a second here; the goal is 50,000, the bound leaves room for slow hosts."""
    lines = lines_of(chain([draft(number) for number in range(1, 5001)]))
    started = time.perf_counter()
    assert verify_lines(lines).holds
    assert len(lines) / (time.perf_counter() - started) > 20_000


def test_f1_keys_in_another_order_teach_no_other_shape() -> None:
    """What shapes are sound is remembered by the kinds of value in their order."""
    first, second = (body_of(row, "") for row in rows()[:2])
    places = {"http_status": "tool", "tool": "http_status"}
    swapped = {key: first[key] for key in (places.get(key, key) for key in BODY_KEYS)}
    whole = {**swapped, "receipt_hash": receipt_hash(first)}
    lines = [json.dumps(whole, separators=(",", ":")).encode() + b"\n"]
    assert verify_lines(lines).holds, "any order is one that JSON may have"
    second |= {"tool": 7, "http_status": "x", "prev_receipt_hash": receipt_hash(first)}
    lines.append(
        dumped({**second, "receipt_hash": sha256(reference_canonical(second)).hexdigest()})
    )
    fault = verify_lines(lines).fault
    assert fault is not None and fault.line == 2
    assert fault.what in ("http_status is not an integer", "tool is not a string")


@pytest.mark.parametrize("seq", [0, -1, "1", True, None, 1.0])
def test_f1_a_receipt_by_itself_has_a_place_in_a_chain(seq: object) -> None:
    body = {**body_of(rows()[0], ""), "seq": seq}
    with pytest.raises(ValueError, match="seq is not that of a receipt"):
        read_receipt(
            dumped(
                {**body, "receipt_hash": sha256(reference_canonical(body)).hexdigest()}
            ).removesuffix(b"\n")
        )
