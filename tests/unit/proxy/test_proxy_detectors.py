"""Detectors: what is found, what is left alone, and that hostile texts cost no more than long."""

from __future__ import annotations

import re
import time

import pytest
from detectors_before import _CREDENTIAL
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.obligation_terms import DETECTORS
from sidecar.proxy.detectors import (
    _IBAN_LENGTHS,
    _KEYS,
    DETECT,
    _luhn,
    _read_account,
    begins_private_key,
    ends_private_key,
    mask,
)

FOUND = {
    "card_number": [
        ("4111111111111111", "***"),
        ("pay 4111 1111 1111 1111 now", "pay *** now"),
        ("5500-0000-0000-0004, 340000000000009", "***, ***"),
        ("12 4111 1111 1111 1111 99", "12 *** 99"),
        ("a4111111111111111b", "a***b"),
        ("no-break 4111\u00a01111\u00a01111\u00a01111 é", "no-break *** é"),
        ("thin 4111\u20091111\u202f1111\u20071111, é", "thin ***, é"),
        ("unseen 41111111\u200b11111111 \u2060", "unseen *** \u2060"),
        ("dashes 5500\u20110000\u20130000\u22120004\u00a0", "dashes ***\u00a0"),
        ("wide \uff14\uff11\uff11\uff11\u3000" + "\uff11" * 12 + " é", "wide *** é"),
    ],
    "iban": [
        ("DE89370400440532013000", "***"),
        ("to DE89 3704 0044 0532 0130 00 THANKS", "to *** THANKS"),
        ("gb82-west-1234-5698-7654-32.", "***."),
        ("FR1420041010050500013M02606", "***"),
        ("an DE89\u202f3704\u00a00044\u20090532\u00a00130\u00a000 — é", "an *** — é"),
    ],
    "email": [
        ("ana@acme.io", "***"),
        ("Ana <ana.b+c@mail.acme.co.uk>, x", "Ana <***>, x"),
        ("jörg@bücher.example", "***"),
        ("mailto:a@b.cc?subject=x", "mailto:***?subject=x"),
    ],
    "api_key": [
        ("key=AKIAIOSFODNN7EXAMPLE;", "key=***;"),
        ("ghp_" + "a1" * 18, "***"),
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: ***"),
        ("x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y", "x *** y"),
        ("sk-proj-abcdefghijklmnopqrst", "***"),
    ],
    "private_key": [
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb",
            "a\n***\nb",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMII never ends", "***"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----x-----END OPENSSH PRIVATE KEY-----", "***"),
    ],
}
LEFT = {
    "card_number": [
        "4111111111111112",
        "1111111111111117",
        "20260101120000",
        "1 2 3 4 5 6 7 8 9",
        "4111\u00a01111\u00a01111\u00a01112",
        "4111\u20281111\u20281111\u20281111",
    ],
    "iban": ["DE89370400440532013001", "DE8937040044053201300", "ZZ89370400440532013000", "de12"],
    "email": ["a@b", "@acme.io", "ana@", "a @ b.io", "v1.2@3.4"],
    "api_key": ["AKIA-short", "bearer of good news everyone", "skate-board", "eyJhbGci"],
    "private_key": ["-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"],
}


@pytest.mark.parametrize(
    ("name", "text", "wanted"), [(n, *pair) for n, pairs in FOUND.items() for pair in pairs]
)
def test_what_is_looked_for_is_masked(name: str, text: str, wanted: str) -> None:
    assert mask(text, [name]) == wanted
    others = [one for one in DETECTORS if one != name]
    assert name == "api_key" or mask(text, others).count("***") <= text.count("@"), "no other"


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in LEFT.items() for t in texts])
def test_what_only_looks_like_it_is_left_alone(name: str, text: str) -> None:
    assert mask(text, [name]) is text


def test_all_together_and_overlapping() -> None:
    text = "ana@acme.io 4111111111111111 DE89370400440532013000 AKIAIOSFODNN7EXAMPLE"
    assert mask(text, DETECTORS) == "*** *** *** ***"
    inside = "-----BEGIN PRIVATE KEY-----\nana@acme.io\n-----END PRIVATE KEY-----!"
    assert mask(inside, DETECTORS) == "***!"


def test_every_detector_of_the_language_is_there() -> None:
    assert set(DETECT) == set(DETECTORS)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="4 1-@a.DE89\nsk_", max_size=60))
def test_masking_never_fails_and_leaves_nothing_to_mask_twice(text: str) -> None:
    once = mask(text, DETECTORS)
    assert mask(once, DETECTORS) == once


@pytest.mark.parametrize(
    "text",
    [
        "4 " * 100_000, "4" * 200_000, "4-" * 100_000, "@" * 200_000, "a" * 200_000,
        "a@a." * 50_000, "a." * 100_000 + "@", "DE89 " * 40_000, "eyJ" * 70_000,
        "eyJaaaaaaaaaa." * 14_000, "bearer " * 30_000, "basic\t" * 30_000,
        "-----BEGIN PRIVATE KEY-----" * 8_000, "sk-" * 70_000, "AKIA" * 50_000,
    ],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_d5_a_hostile_text_costs_no_more_than_a_long_one(text: str) -> None:
    started = time.thread_time()
    mask(text, DETECTORS)
    assert begins_private_key(text) == ("BEGIN" in text)
    assert ends_private_key(text) is None
    assert time.thread_time() - started < 2.0


@pytest.mark.parametrize(
    "text",
    [
        "AIza" + "a1" * 9 + "AIza" + "b2" * 17 + "b",  # of a fixed length, one within the other
        "ghp_" + "a1" * 18 + "ghp_" + "b2" * 18,  # the end of one is the beginning of the next
        "eyJ" + "a1" * 6 + ".eyJ" + "b2" * 6 + "." + "c3" * 6 + "." + "d4" * 6,
    ],
)
def test_keys_without_anything_between_are_masked_to_the_end_of_the_last(text: str) -> None:
    assert mask(text, ["api_key"]) == "***"


ANY_KEY = re.compile("|".join(dict.fromkeys(one.pattern for one in (*_KEYS.values(), _CREDENTIAL))))
PIECES = st.sampled_from(
    [*_KEYS, "Bearer ", "ba\u017fic  ", "bas\u0131c ", "BAS\u0130C  ", "a1" * 9, "A1" * 8, "a" * 22,
     "a1" * 22, "x" * 43, ".", "-", "_", "=", " ", "\n", "é", "9"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_keys_are_found_by_their_beginnings_as_by_one_search_for_all(text: str) -> None:
    covered: set[int] = set()
    for begin, end in DETECT["api_key"](text):
        covered.update(range(begin, end))
    for found in ANY_KEY.finditer(text):
        assert covered.issuperset(range(*found.span()))
    if ANY_KEY.search(text) is None:
        assert not covered


@given(st.text("0123456789", min_size=1, max_size=19))
def test_check_digits_are_those_of_the_standard(digits: str) -> None:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    assert _luhn(digits) is (total % 10 == 0)


def slow_account(text: str, length: int) -> int | None:
    account, at, may_skip = "", 0, False
    while len(account) < length and at < len(text):
        if text[at].isascii() and text[at].isalnum():
            account, may_skip = account + text[at].upper(), True
        elif text[at] in " -" and may_skip:
            may_skip = False
        else:
            return None
        at += 1
    if len(account) < length or (at < len(text) and text[at].isascii() and text[at].isalnum()):
        return None
    turned = account[4:] + account[:4]
    return at if int("".join(str(int(one, 36)) for one in turned)) % 97 == 1 else None


IBAN_PIECES = st.sampled_from(
    ["DE89", "370400440532013000", "3704", "0044", "0532", "0130", "00", "gb82", "WEST", "1234",
     "5698", "7654", "32", "NO93", "86011117947", " ", "-", "a", "é", "\u017f", "\n", "x"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.lists(IBAN_PIECES, max_size=9).map("".join), st.sampled_from(sorted(_IBAN_LENGTHS.values()))
)
def test_an_account_is_read_as_character_by_character(text: str, length: int) -> None:
    assert _read_account(text, 0, length) == slow_account(text, length)


@pytest.mark.parametrize("name", sorted(DETECT))
def test_d5_a_text_without_any_is_looked_through_soon(name: str) -> None:
    text = "A plain text says what it says, 12 times or 345; the rest is silence. " * 15_000
    begun = time.process_time()
    assert mask(text, (name,)) is text
    assert time.process_time() - begun < 0.12  # keys: 0.25 s, when each place was looked at for all
