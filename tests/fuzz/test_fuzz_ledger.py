"""Which intent an arrival is of, as the harness finds it."""

from __future__ import annotations

import hashlib
import hmac
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from fuzz_ledger import Recorded, is_of
from fuzz_reader import Message
from fuzz_upstream import Arrival

SALT = bytes(16)


def arrival(target: str, body: bytes) -> Arrival:
    return Arrival("up", Message("POST", target, [("content-type", b"application/json")], body))


def intent(body: bytes, mark: str) -> Recorded:
    digest = hmac.new(SALT, body, hashlib.sha256).hexdigest()
    return Recorded("id", "up", digest, SALT, mark, "/free", "up/free", "POST", {}, {})


@pytest.mark.parametrize(
    "body",
    [
        b'{"mark":"one"}',
        b'{"params":{"arguments":{"mark":"one"}}}',
        # A run of 500,000 found a call whose arguments were a number, and its mark in the query.
        b'{"params":{"arguments":1}}',
        b'{"params":7}',
        b"{no JSON",
        b"",
    ],
)
def test_an_arrival_is_of_the_intent_whose_mark_it_bears(body: bytes) -> None:
    bears = arrival("/free?mark=one", body)
    assert is_of(intent(body, "one"), bears)
    assert not is_of(intent(body + b" ", "one"), bears), "of another body"
    assert not is_of(intent(body, "two"), bears), "of another mark"
    assert is_of(intent(body, "one"), arrival("/free", body)) is (b"one" in body)
