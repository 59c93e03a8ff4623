"""The published corpora, what a verifier must accept and must reject, and how to write them.

`PYTHONPATH=. python tests/unit/ledger/ledger_corpus.py --write` writes tests/cases/receipts anew.
They are written once for a format: if a test says that they changed, the format changed.
"""

from __future__ import annotations

import hmac
import json
import sys
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from ledger_checkpoint_vectors import checkpoint_vectors
from ledger_setup import CASES, START_US, reference_canonical
from ledger_vectors import Body, bodies, hash_of, id_of, line, vectors


class Rejected(NamedTuple):
    """The first bad line, the seq it gives itself, and words of what is wrong."""

    lines: list[bytes]
    line: int
    seq: int | None
    what: str
    is_unreadable: bool = False


def whole() -> list[bytes]:
    return [line(body) for body in bodies()]


def relinked(edit: Callable[[list[Body]], Any]) -> list[bytes]:
    """A forgery by somebody who can hash: bodies edited, then every link and hash made anew."""
    found = bodies()
    edit(found)
    prev, lines = "", []
    for body in found:
        body["prev_receipt_hash"] = prev
        prev = hash_of(body)
        lines.append(line(body))
    return lines


def _edit_line(number: int, edit: Callable[[bytes], bytes]) -> list[bytes]:
    lines = whole()
    lines[number - 1] = edit(lines[number - 1])
    return lines


def _swap(number: int, old: bytes, new: bytes) -> list[bytes]:
    lines = whole()
    assert lines[number - 1].count(old) == 1, (number, old)
    lines[number - 1] = lines[number - 1].replace(old, new)
    return lines


def _moved(order: list[int]) -> list[bytes]:
    lines = whole()
    return [lines[number - 1] for number in order]


def _set(number: int, **values: Any) -> Callable[[list[Body]], None]:
    return lambda found: found[number - 1].update(values)


def _drop_key(found: list[Body]) -> None:
    del found[3]["approver"]


def _rename_key(found: list[Body]) -> None:
    found[3]["Approver"] = found[3].pop("approver")


def _another_tenants(found: list[Body]) -> None:
    for body in found[4:]:
        body["tenant_id"] = "other"


def _starts_in_the_middle() -> list[bytes]:
    """A forged beginning: the first receipt says 1 and links to something."""
    found = bodies()
    found[0]["prev_receipt_hash"] = "ab" * 32
    return [line(found[0])]


_NONCE = bytes(range(16))
_ARGUMENTS = '{"title":"é"}'
_FACTS = '{"method":"POST","path":"/repos/acme/web/issues","reason":"a rule allows it"}'
_BARE = '{"method":"DELETE","path":"/repos/acme/web"}'


def _salt(facts: str) -> bytes:
    return _NONCE + sha256(_NONCE + facts.encode()).digest()[:16]


def _under(salt: bytes, text: str) -> str:
    return hmac.new(salt, text.encode(), sha256).hexdigest()


def with_facts(number: int = 0, **forged: str | None) -> list[bytes]:
    """Six receipts with what may stand beside them; `forged` is put beside one of them.

    The first, a call with arguments and facts; its outcome, with nothing. A call without a body
    whose arguments are not kept. One that was recorded before salts told of facts. One with a body
    whose arguments are not kept. A control receipt, that has arguments and no facts.
    """
    found = bodies()[:6]
    six = {"event_id": id_of(10), "kind": "control", "approver": "ops", "outcome": None}
    found[5] |= {**six, "call_id": None}
    beside: list[dict[str, str | None]] = [
        {"salt": _salt(_FACTS).hex(), "arguments": _ARGUMENTS, "facts": _FACTS},
        {"salt": None, "arguments": None, "facts": None},
        {"salt": _salt(_BARE).hex(), "arguments": None, "facts": _BARE},
        {"salt": _NONCE.hex(), "arguments": _ARGUMENTS, "facts": _FACTS},
        {"salt": _salt(_FACTS).hex(), "arguments": None, "facts": _FACTS},
        {"salt": _salt("{}").hex(), "arguments": _ARGUMENTS, "facts": "{}"},
    ]
    for at in (0, 3, 5):
        found[at]["args_commitment"] = _under(bytes.fromhex(str(beside[at]["salt"])), _ARGUMENTS)
    found[2]["request_sha256"] = _under(_salt(_BARE), "")
    found[4]["request_sha256"] = _under(_salt(_FACTS), "a body")
    if number:
        beside[number - 1] |= forged
    return _beside(found, beside)


def shown_salts(number: int = 0, **forged: str | None) -> list[bytes]:
    """Two receipts without arguments that show their salt in `resource`: a call with a body, and
    its outcome. A third has such a text of its own, and is no call."""
    found = bodies()[:3]
    found[2] |= {"event_id": id_of(10), "kind": "control", "approver": "ops", "call_id": None}
    beside: list[dict[str, str | None]] = [
        {"salt": _salt(_FACTS).hex(), "arguments": None, "facts": _FACTS},
        {"salt": _salt(_BARE).hex(), "arguments": None, "facts": _BARE},
        {"salt": _salt("{}").hex(), "arguments": _ARGUMENTS, "facts": "{}"},
    ]
    for body, more in zip(found, beside, strict=True):
        body["resource"] = f"salt:{_under(bytes.fromhex(str(more['salt'])), '')}"
    found[2] |= {"resource": "salt:", "args_commitment": _under(_salt("{}"), _ARGUMENTS)}
    if number:
        beside[number - 1] |= forged
    return _beside(found, beside)


def _beside(found: list[Body], beside: list[dict[str, str | None]]) -> list[bytes]:
    prev, lines = "", []
    for body, more in zip(found, beside, strict=True):
        body["prev_receipt_hash"] = prev
        prev = hash_of(body)
        said = {**body, **more, "receipt_hash": prev}
        lines.append(json.dumps(said, ensure_ascii=False).encode() + b"\n")
    return lines


#: name: (lines, first bad line, the seq it names, whether it is unreadable, words of the fault)
MUST_REJECT: dict[str, Rejected] = {
    "edited_value": Rejected(_swap(1, b'"allow"', b'"denyy"'), 1, 1, "does not match"),
    "edited_status": Rejected(_swap(3, b":403,", b":200,"), 3, 3, "does not match"),
    "edited_prev": Rejected(
        _edit_line(4, lambda text: text.replace(hash_of(bodies()[2]).encode(), b"00" * 32)),
        4,
        4,
        "does not match",
    ),
    "edited_hash": Rejected(
        _edit_line(8, lambda text: text.replace(hash_of(bodies()[7]).encode(), b"00" * 32)),
        8,
        8,
        "does not match",
    ),
    "edited_seq": Rejected(_swap(5, b'"seq":5', b'"seq":6'), 5, 6, "does not match"),
    "edited_time": Rejected(
        _swap(2, str(START_US + 41_873).encode(), str(START_US).encode()), 2, 2, "does not match"
    ),
    "edited_kind": Rejected(_swap(6, b'"recovery"', b'"outcome"'), 6, 6, "does not match"),
    "null_to_text": Rejected(
        _swap(7, b'"agent_id":null', b'"agent_id":"null"'), 7, 7, "does not match"
    ),
    "normalised_text": Rejected(
        _edit_line(3, lambda text: text.replace("e\u0301".encode(), "é".encode())),
        3,
        3,
        "does not match",
    ),
    "deleted_first": Rejected(_moved([2, 3, 4, 5, 6, 7, 8]), 1, 2, "receipt 1 is expected"),
    "deleted_middle": Rejected(_moved([1, 2, 4, 5, 6, 7, 8]), 3, 4, "receipt 3 is expected"),
    "deleted_two": Rejected(_moved([1, 4, 5, 6, 7, 8]), 2, 4, "receipt 2 is expected"),
    "duplicated": Rejected(_moved([1, 2, 3, 3, 4, 5]), 4, 3, "receipt 4 is expected"),
    "duplicated_first": Rejected(_moved([1, 1, 2]), 2, 1, "receipt 2 is expected"),
    "reordered_neighbours": Rejected(_moved([1, 3, 2, 4]), 2, 3, "receipt 2 is expected"),
    "reversed": Rejected(_moved([8, 7, 6, 5, 4, 3, 2, 1]), 1, 8, "receipt 1 is expected"),
    "inserted_forged": Rejected(
        [*whole()[:4], line({**bodies()[4], "event_id": id_of(99)}), *whole()[4:]],
        6,
        5,
        "receipt 6 is expected",
    ),
    "replaced_forged": Rejected(
        [*whole()[:4], line({**bodies()[4], "decision": "allow"}), *whole()[5:]],
        6,
        6,
        "does not link",
    ),
    "deleted_and_renumbered": Rejected(
        [*whole()[:2], *(line({**b, "seq": b["seq"] - 1}) for b in bodies()[3:])],
        3,
        3,
        "does not link",
    ),
    "unlinked_start": Rejected(_starts_in_the_middle(), 1, 1, "links to nothing"),
    "time_goes_back": Rejected(relinked(_set(4, ts_us=START_US)), 4, 4, "time is before"),
    "other_tenant": Rejected(relinked(_another_tenants), 5, 5, "tenant"),
    "gap_relinked": Rejected(relinked(lambda found: found.pop(2)), 3, 4, "receipt 3 is expected"),
    "renamed_key": Rejected(relinked(_rename_key), 4, 4, "unknown"),
    "missing_key": Rejected(relinked(_drop_key), 4, 4, "missing"),
    "extra_key": Rejected(relinked(_set(4, note=None)), 4, 4, "unknown"),
    "missing_hash": Rejected(
        _edit_line(2, lambda text: reference_canonical(bodies()[1]) + b"\n"),
        2,
        2,
        "missing",
    ),
    "wrong_version": Rejected(relinked(_set(4, v=2)), 4, 4, "version 2"),
    "version_as_text": Rejected(relinked(_set(4, v="1")), 4, 4, "not an integer"),
    "unknown_kind": Rejected(relinked(_set(4, kind="note")), 4, 4, "kind"),
    "required_null": Rejected(relinked(_set(4, event_id=None)), 4, 4, "null"),
    "number_for_text": Rejected(relinked(_set(4, agent_id=7)), 4, 4, "not a string"),
    "object_for_text": Rejected(relinked(_set(4, agent_id={"a": 1})), 4, 4, "not a string"),
    "list_for_text": Rejected(relinked(_set(4, agent_id=["a"])), 4, 4, "not a string"),
    "float_for_integer": Rejected(relinked(_set(4, http_status=403.0)), 4, 4, "not an integer"),
    "boolean_for_integer": Rejected(relinked(_set(4, http_status=True)), 4, 4, "not an integer"),
    "text_for_integer": Rejected(relinked(_set(4, http_status="403")), 4, 4, "not an integer"),
    "integer_beyond_2_53": Rejected(relinked(_set(4, http_status=2**53)), 4, 4, "beyond"),
    "integer_far_beyond": Rejected(relinked(_set(4, http_status=2**64)), 4, 4, "not an integer"),
    "seq_beyond_2_53": Rejected(relinked(_set(1, seq=2**53)), 1, 2**53, "beyond"),
    "key_twice": Rejected(_swap(4, b'"mode":', b'"mode":"shadow","mode":'), 4, 4, "twice"),
    "key_twice_escaped": Rejected(
        _swap(4, b'"mode":', b'"\\u006dode":"shadow","mode":'),
        4,
        4,
        "twice",
    ),
    "hash_twice": Rejected(
        _edit_line(
            4,
            lambda text: text[:-2] + b',"receipt_hash":"' + hash_of(bodies()[3]).encode() + b'"}\n',
        ),
        4,
        4,
        "twice",
    ),
    "not_json": Rejected([*whole()[:2], b"receipts\n"], 3, None, "not JSON", True),
    "not_an_object": Rejected([*whole()[:2], b"[1]\n"], 3, None, "not a JSON object", True),
    "truncated_line": Rejected([*whole()[:2], whole()[2][:200]], 3, None, "cut off", True),
    "blank_line": Rejected([*whole()[:2], b"\n", *whole()[2:]], 3, None, "not JSON", True),
    "byte_order_mark": Rejected([b"\xef\xbb\xbf" + whole()[0]], 1, None, "not JSON", True),
    "not_utf8": Rejected(
        _edit_line(3, lambda text: text.replace("é".encode(), b"\xe9")), 3, None, "not JSON", True
    ),
    "lone_surrogate": Rejected(_swap(7, b'"ops"', b'"\\ud800"'), 7, None, "not JSON", True),
    "empty": Rejected([], 1, None, "no receipts", True),
    "facts_edited": Rejected(
        with_facts(1, facts=_FACTS.replace("web", "api")), 1, 1, "facts are not those"
    ),
    "facts_of_another": Rejected(with_facts(3, facts=_FACTS), 3, 3, "facts are not those"),
    "facts_where_none_were": Rejected(with_facts(6, facts=_BARE), 6, 6, "facts are not those"),
    "facts_under_a_longer_salt": Rejected(
        with_facts(1, salt=_salt(_FACTS).hex() + "00", facts=_BARE), 1, 1, "salt has 33 bytes"
    ),
    "facts_under_an_older_salt": Rejected(
        with_facts(1, salt=_NONCE.hex(), facts=_BARE), 1, 1, "arguments are not those"
    ),
    "facts_under_their_own_salt": Rejected(
        with_facts(1, salt=_salt(_BARE).hex(), facts=_BARE), 1, 1, "arguments are not those"
    ),
    "facts_without_a_salt": Rejected(
        with_facts(1, salt=None, arguments=None, facts=_BARE), 1, 1, "no salt that could stand"
    ),
    "arguments_edited": Rejected(with_facts(1, arguments="{}"), 1, 1, "arguments are not those"),
    "salt_in_capitals": Rejected(
        with_facts(4, salt=_NONCE.hex().upper()), 4, 4, "salt is not lower-case hex"
    ),
    "salt_with_blanks": Rejected(
        with_facts(3, salt=_salt(_BARE).hex(" ")), 3, 3, "salt is not lower-case hex"
    ),
    "facts_under_another_salt_than_shown": Rejected(
        shown_salts(1, salt=_salt(_BARE).hex(), facts=_BARE), 1, 1, "salt is not the one"
    ),
    "facts_of_an_outcome_under_another_salt": Rejected(
        shown_salts(2, salt=_salt(_FACTS).hex(), facts=_FACTS), 2, 2, "salt is not the one"
    ),
}


def _reordered_keys(text: bytes) -> bytes:
    pairs = list(json.loads(text).items())
    return json.dumps(dict(reversed(pairs)), indent=None).encode() + b"\r\n"


#: name: (lines, where they must begin)
MUST_ACCEPT: dict[str, tuple[list[bytes], int]] = {
    "whole": (whole(), 1),
    "one": (whole()[:1], 1),
    "later_part": (whole()[4:], 5),
    "other_key_order_blanks_and_escapes": ([_reordered_keys(text) for text in whole()], 1),
    "with_facts": (with_facts(), 1),
    "with_shown_salts": (shown_salts(), 1),
    "with_facts_erased": (with_facts(1, salt=None, arguments=None, facts=None), 1),
    "no_newline_at_the_end": ([*whole()[:-1], whole()[-1].rstrip(b"\n")], 1),
}


def files() -> dict[str, bytes]:
    """Every published file, by its name."""
    rejected = {
        name: {
            "line": case.line,
            "seq": case.seq,
            "is_unreadable": case.is_unreadable,
            "what": case.what,
        }
        for name, case in MUST_REJECT.items()
    }
    accepted = {name: {"first_seq": first_seq} for name, (_, first_seq) in MUST_ACCEPT.items()}
    return {
        "v1.json": _pretty(vectors()),
        "checkpoints.json": _pretty(checkpoint_vectors()),
        "must_reject/expected.json": _pretty(rejected),
        "must_accept/expected.json": _pretty(accepted),
        **{f"must_reject/{name}.jsonl": b"".join(case.lines) for name, case in MUST_REJECT.items()},
        **{f"must_accept/{name}.jsonl": b"".join(case[0]) for name, case in MUST_ACCEPT.items()},
    }


def _pretty(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(f"usage: {sys.argv[0]} --write")
    for name, content in files().items():
        (CASES / name).parent.mkdir(parents=True, exist_ok=True)
        (CASES / name).write_bytes(content)
