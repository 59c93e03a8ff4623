"""A receipt stands for the facts beside it, though none of its keys is theirs."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ledger_corpus import with_facts
from ledger_setup import CASES

from sidecar.cli.main import main
from sidecar.ledger.commitment import (
    NO_FACTS,
    NONCE_BYTES,
    SALT_BYTES,
    NotCommitted,
    committed,
    is_vouched_for,
    salt_beside,
)
from sidecar.ledger.verify import verify_lines

NONCE = bytes(range(16))
FACTS = '{"path":"/a","reason":"no"}'


def under(salt: bytes, text: str) -> str:
    return hmac.digest(salt, text.encode(), "sha256").hex()


def is_vouched(
    salt: bytes | None, arguments: str | None, facts: str | None, of: str | None, body: str | None
) -> bool:
    said = None if salt is None else salt.hex()
    return is_vouched_for(said, arguments, facts, args_commitment=of, request_sha256=body)


def test_a_receipt_vouches_for_facts_where_something_shows_that_the_salt_is_its_own() -> None:
    salt = salt_beside(NONCE, FACTS.encode())
    assert (salt[:NONCE_BYTES], len(salt)) == (NONCE, SALT_BYTES)
    of, no_body, some_body = under(salt, "{}"), under(salt, ""), under(salt, "x")
    assert is_vouched(salt, "{}", FACTS, of, some_body)
    assert is_vouched(salt, None, FACTS, of, no_body), "whoever has the salt knows an empty body"
    assert not is_vouched(salt, None, FACTS, of, some_body)
    assert not is_vouched(salt, None, FACTS, None, None)
    assert _is_refused(None, None, FACTS, of, some_body), "what is erased takes its salt along"
    old = under(NONCE, "{}")
    assert not is_vouched(NONCE, "{}", FACTS, old, None), "recorded before salts told of facts"
    for facts in (None, NO_FACTS):
        assert is_vouched(NONCE, "{}", facts, old, None), "there is nothing to vouch for"
        assert is_vouched(None, None, facts, of, some_body)
    assert is_vouched(salt, "{}", None, of, some_body)


@given(st.text())
@example(NO_FACTS)
@example("")
@example(FACTS[:-1])
@example(FACTS + " ")
def test_f7_no_other_facts_go_under_the_salt(other: str) -> None:
    salt = salt_beside(NONCE, FACTS.encode())
    of, body = under(salt, "{}"), under(salt, "")
    assert other == FACTS or _is_refused(salt, "{}", other, of, body)
    assert other == FACTS or _is_refused(salt, None, other, of, body)


@given(st.binary(max_size=80))
@example(salt_beside(NONCE, FACTS.encode()) + b"\0")
@example(salt_beside(NONCE, FACTS.encode())[:-1])
@example(NONCE)
@example(NONCE + bytes(16))
@example(b"")
def test_f7_no_other_salt_lets_other_facts_in(salt: bytes) -> None:
    """HMAC pads a short key with zeros: a salt may not be said to be longer or shorter."""
    of = under(salt_beside(NONCE, FACTS.encode()), "{}")
    assert _is_refused(salt, "{}", '{"path":"/b"}', of, None)


def _is_refused(
    salt: bytes | None, arguments: str | None, facts: str, of: str, body: str | None
) -> bool:
    try:
        is_vouched(salt, arguments, facts, of, body)
    except NotCommitted:
        return True
    return False


@pytest.mark.parametrize("salt", [b"", bytes(15), bytes(33)])
def test_a_salt_is_looked_at_where_it_stands_alone_too(salt: bytes) -> None:
    assert is_vouched(NONCE, None, None, None, None), "control"
    with pytest.raises(NotCommitted, match=f"its salt has {len(salt)} bytes"):
        is_vouched(salt, None, None, None, None)


def test_arguments_of_what_has_no_facts_are_committed_to_the_same_way() -> None:
    commitment, row = committed("acme", NONCE, b'{"reason":"why"}')
    salt = bytes.fromhex(row.salt)
    assert (row.tenant_id, row.arguments, row.facts) == ("acme", '{"reason":"why"}', NO_FACTS)
    assert commitment == under(salt, '{"reason":"why"}')
    assert is_vouched(salt, row.arguments, row.facts, commitment, None)
    with pytest.raises(NotCommitted, match="facts"):
        is_vouched(salt, row.arguments, FACTS, commitment, None)


def test_the_verdict_says_of_how_many_facts_nothing_shows_that_they_are_those_of_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = verify_lines(with_facts())
    assert (verdict.fault, verdict.facts, verdict.unvouched) == (None, 4, 2)
    path = CASES / "must_accept" / "with_facts.jsonl"
    assert main(["receipts", "verify", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "facts: 4, of which 2 are as they were when they were recorded" in printed
    assert main(["receipts", "verify", "--json", str(path)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["facts"], said["unvouched"]) == (4, 2)
    one = tmp_path / "one.jsonl"
    one.write_bytes(with_facts()[0])
    assert main(["receipts", "verify", str(one)]) == 0
    assert "facts: 1, all as they were when they were recorded" in capsys.readouterr().out
    assert main(["receipts", "verify", str(CASES / "must_accept" / "whole.jsonl")]) == 0
    assert "facts:" not in capsys.readouterr().out
    assert main(["receipts", "verify", str(CASES / "must_reject" / "facts_edited.jsonl")]) == 1
    assert "its facts are not those its salt stands for" in capsys.readouterr().out
