"""A text that is searched piece by piece is masked byte for byte as one that is searched at once,
and no piece of the work keeps the event loop from others for long."""

from __future__ import annotations

import random
import re
import time

import detectors_before
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.policy.obligation_terms import DETECTORS
from sidecar.proxy import detectors
from sidecar.proxy.detectors import DETECT, mask

CARDS = ["4111", "1111", "411111111111", "4111111111111111", "340000000000009", "5500", "0000",
         "0004", "55000000000000", "378", "282", "246", "310", "005", "601", "100", "099", "013",
         "942", "4", "11", "20", "6011000990139424", "123456789012345678901"]  # fmt: skip
IBANS = ["DE89", "370400440532013000", "3704", "0044", "0532", "0130", "00", "gb82", "WEST",
         "1234", "5698", "7654", "32", "NO93", "86011117947", "RU89", "SC84"]  # fmt: skip
MAILS = ["@", "ana", "acme", ".", "io", "a@b.cc", "@a.", "x" * 63, "é", "\u0130", "_", "9"]
KEYS = [*detectors._KEYS, "Bearer ", "basic\t", "ba\u017fic  ", "bas\u0131c ", "BAS\u0130C  ",
        "a1" * 9, "A1" * 8, "a" * 22, "a1" * 22, "x" * 43, "=", "-----BEGIN ", "PRIVATE KEY-----",
        "RSA ", "-----END ", "\u212a", "\u00df"]  # fmt: skip
BETWEEN = [" ", " ", "-", "-", "", "", "", "\n", ",", "  ", "a", "\u0661"]


def texts(*pieces: list[str]) -> st.SearchStrategy[str]:
    one = st.sampled_from([piece for many in pieces for piece in many])
    pair = st.tuples(one, st.sampled_from(BETWEEN)).map("".join)
    return st.lists(pair, max_size=40).map("".join)


ANY = st.one_of(
    texts(CARDS), texts(CARDS, CARDS, MAILS), texts(IBANS), texts(MAILS), texts(KEYS),
    texts(CARDS, IBANS, MAILS, KEYS),
    st.text("0123456789 -", max_size=200), st.text("4 5-@a.DE89\nsk_", max_size=120),
)  # fmt: skip


@pytest.fixture(params=["as it is", "in pieces of 7", "in pieces of 64"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "as it is":
        return
    groups = 8 if request.param.endswith(" 7") else 16
    monkeypatch.setattr(detectors, "_PIECE", 7 if groups == 8 else 64)
    monkeypatch.setattr(detectors, "_RUN_GROUPS", groups)
    monkeypatch.setattr(detectors, "_RUN_REACH", groups * 20)
    monkeypatch.setattr(detectors, "_DIGIT_RUN", detectors._digit_run(groups))
    monkeypatch.setattr(detectors, "_FEW_GROUPS", 2)


@pytest.mark.usefixtures("_pieces")
@settings(max_examples=1500, deadline=None)
@given(ANY)
@example("4111 1111 1111 1111 " * 9)
@example("bearer abcdefghijklmnop1-bearer abcdefghijklmnop1")
def test_a_text_is_masked_as_it_was(text: str) -> None:
    for name, before in detectors_before.DETECT.items():
        assert sorted(DETECT[name](text)) == sorted(before(text)), name
    assert mask(text, DETECTORS) == detectors_before.mask(text, DETECTORS)


def test_long_texts_of_every_kind_are_masked_as_they_were() -> None:
    """At the length of their own pieces, and of runs that are longer than one."""
    for seed in range(30):
        chance = random.Random(seed)
        pieces = chance.choice([CARDS, IBANS, MAILS, KEYS, [*CARDS, *IBANS, *MAILS, *KEYS]])
        between = chance.choice([BETWEEN, [" "], ["-"], [" ", "-"], [""]])
        parts = [chance.choice(pieces) + chance.choice(between) for _ in range(9000)]
        text = "".join(parts)
        for name, before in detectors_before.DETECT.items():
            assert sorted(DETECT[name](text)) == sorted(before(text)), (seed, name)


@pytest.mark.parametrize(
    "text", ["a@b.cc", "4111111111119", "NO9386011117947", "xoxa-aaaaaaaaaa", "xox" + "b-" * 6,
             "-----BEGIN PRIVATE KEY-----"]
)  # fmt: skip
def test_the_shortest_that_can_be_found_is_looked_at(text: str) -> None:
    assert mask(text, DETECTORS) == "***"
    assert len(text) == min(detectors._LEAST[one] for one in DETECTORS if mask(text, [one]) != text)


HOSTILE = [
    "4111 ", "411 ", "555-", "4 ", "4", "411;", "4111111111113a", "411 123 456 789 012 345 678,",
    "RU89 ", "SC84 ", "DE89", "NO93-", "@", "a@", "@a.", "a@b.cc ", "a@a.", "eyJ", "xox", "hf_",
    "bearer ", "basic\t", "bearer a", "sk-", "AKIA", "a", "\u0131", "-", "A plain text of 12. ",
]  # fmt: skip


def test_d5_no_single_search_goes_over_all_of_a_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread keeps the interpreter's lock for the whole of one search."""
    longest = 0

    class Watched:
        """A pattern that notes how much of the text it may look at, and did."""

        def __init__(self, form: re.Pattern[str]) -> None:
            self._form = form

        def search(self, text: str, at: int, end: int) -> re.Match[str] | None:
            nonlocal longest
            longest = max(longest, end - at)
            return self._form.search(text, at, end)

        def finditer(self, text: str, at: int, end: int) -> object:
            nonlocal longest
            longest = max(longest, end - at)
            return self._form.finditer(text, at, end)

    for name in ("_DIGIT_RUN", "_IBAN_START", "_DOMAIN", "_SCHEME"):
        monkeypatch.setattr(detectors, name, Watched(getattr(detectors, name)))
    for one in HOSTILE:
        text = one * (200_000 // len(one))
        assert mask(text, DETECTORS) == detectors_before.mask(text, DETECTORS), one
    assert 0 < longest <= detectors._PIECE + detectors._RUN_REACH


@pytest.mark.parametrize(
    ("name", "piece", "share"),
    [("card_number", "555-", 0.6), ("card_number", "411;", 0.7), ("email", "a@b.cc ", 0.6),
     ("email", "@", 0.6), ("iban", "a plain text ", 0.6), ("card_number", "a plain text ", 0.6)],
)  # fmt: skip
def test_d5_the_worst_texts_cost_less_than_they_did(name: str, piece: str, share: float) -> None:
    text = piece * (400_000 // len(piece))

    def least_s(detect: detectors.Detector) -> float:
        took = []
        for _ in range(3):
            begun = time.thread_time()
            list(detect(text))
            took.append(time.thread_time() - begun)
        return min(took)

    assert least_s(DETECT[name]) < share * least_s(detectors_before.DETECT[name])
