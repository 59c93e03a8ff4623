"""Detectors: what is found, what is left alone, and that hostile texts cost no more than long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.obligation_terms import DETECTORS
from sidecar.proxy.detectors import DETECT, begins_private_key, ends_private_key, mask

FOUND = {
    "card_number": [
        ("4111111111111111", "***"),
        ("pay 4111 1111 1111 1111 now", "pay *** now"),
        ("5500-0000-0000-0004, 340000000000009", "***, ***"),
        ("12 4111 1111 1111 1111 99", "12 *** 99"),
        ("a4111111111111111b", "a***b"),
    ],
    "iban": [
        ("DE89370400440532013000", "***"),
        ("to DE89 3704 0044 0532 0130 00 THANKS", "to *** THANKS"),
        ("gb82-west-1234-5698-7654-32.", "***."),
        ("FR1420041010050500013M02606", "***"),
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
    "card_number": ["4111111111111112", "1111111111111117", "20260101120000", "1 2 3 4 5 6 7 8 9"],
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
