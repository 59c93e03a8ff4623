"""Ids with tags: whose they are is told by the tag alone, and every other one is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.model import Principal
from sidecar.proxy.bindings import ID_BYTES_MAX, KNOWN_MAX, Bindings

KEY = bytes(range(32))
BINDINGS = Bindings(KEY)
ANA = Principal("acme", "ana")
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=80)


def opened(given_id: str, principal: Principal = ANA, upstream: str = "files") -> str:
    """The server's id, or the code of the refusal."""
    try:
        return BINDINGS.session_in(principal, upstream, given_id)
    except Refused as refused:
        return refused.code


@given(VISIBLE)
def test_c13_a_session_comes_back_as_it_was_given(session: str) -> None:
    tagged = BINDINGS.session_out(ANA, "files", session)
    assert tagged != session and tagged.isascii() and tagged.isprintable() and " " not in tagged
    assert opened(tagged) == session
    assert Bindings(KEY).session_in(ANA, "files", tagged) == session, "after a restart, elsewhere"


@pytest.mark.parametrize(
    ("principal", "upstream"),
    [
        (Principal("acme", "bob"), "files"),
        (Principal("rival", "ana"), "files"),
        (ANA, "mail"),
        (Principal("acmea", "na"), "files"),
        (Principal("acme", "anaf"), "iles"),
    ],
)
def test_c13_a_session_of_another_agent_tenant_or_upstream_is_unknown(
    principal: Principal, upstream: str
) -> None:
    tagged = BINDINGS.session_out(ANA, "files", "s-1")
    assert opened(tagged) == "s-1", "positive control"
    assert opened(tagged, principal, upstream) == "session_unknown"


def test_c13_no_bit_of_a_session_can_be_changed() -> None:
    tagged = BINDINGS.session_out(ANA, "files", "s-1").encode()
    others = {
        bytes([*tagged[:at], tagged[at] ^ 1 << bit, *tagged[at + 1 :]])
        for at, bit in itertools.product(range(len(tagged)), range(8))
    }
    kept = [one for one in others if opened(one.decode("latin-1")) != "session_unknown"]
    assert kept == []
    assert opened(tagged.decode()) == "s-1", "positive control"


@pytest.mark.parametrize(
    "garbage",
    ["", ".", "s-1", "s-1.", "s-1." + "A" * 22, "x" * 22, "." + "A" * 22, "é" * 30, "\U0001f600",
     "s-1." + "A" * 21, "a" * 8000, "s 1." + "A" * 22, "A" * (ID_BYTES_MAX + 24)],
)  # fmt: skip
def test_c13_guessed_and_garbled_and_huge_sessions_are_unknown(garbage: str) -> None:
    assert opened(garbage) == "session_unknown"


@given(st.text(max_size=60))
def test_c13_no_text_opens_a_session_or_breaks_the_check(text: str) -> None:
    assert opened(text.replace("\0", "")) == "session_unknown"


@pytest.mark.parametrize("session", ["", "a b", "a\tb", "é", "a" * (ID_BYTES_MAX + 1), "\x7f"])
def test_c13_a_server_gives_visible_ascii_or_nothing(session: str) -> None:
    with pytest.raises(Refused) as caught:
        BINDINGS.session_out(ANA, "files", session)
    assert caught.value.code == "answer_unchecked"
    assert ("longer than 1024 bytes" in str(caught.value)) is (len(session) > ID_BYTES_MAX)


EVENTS: list[tuple[str, Callable[[str], str]]] = [
    ("another agent", lambda tagged: BINDINGS.event_in(Principal("acme", "bob"), "f", "s", tagged)),
    ("another tenant", lambda tagged: BINDINGS.event_in(Principal("x", "ana"), "f", "s", tagged)),
    ("another upstream", lambda tagged: BINDINGS.event_in(ANA, "g", "s", tagged)),
    ("another session", lambda tagged: BINDINGS.event_in(ANA, "f", "s2", tagged)),
    ("no session", lambda tagged: BINDINGS.event_in(ANA, "f", "", tagged)),
    ("huge", lambda tagged: BINDINGS.event_in(ANA, "f", "s", "7" * 5000 + tagged)),
    ("garbage", lambda tagged: BINDINGS.event_in(ANA, "f", "s", "\U0001f600" + tagged)),
    ("untagged", lambda tagged: BINDINGS.event_in(ANA, "f", "s", "e7")),
]


@pytest.mark.parametrize(("whose", "opens"), EVENTS)
def test_c14_an_event_is_known_to_its_owner_alone(whose: str, opens: Callable[[str], str]) -> None:
    tagged = BINDINGS.event_out(ANA, "f", "s", b"e7").decode()
    assert BINDINGS.event_in(ANA, "f", "s", tagged) == "e7", "positive control"
    with pytest.raises(Refused) as caught:
        opens(tagged)
    assert (caught.value.code, caught.value.status) == ("event_unknown", 400), whose


def test_c14_a_session_is_no_event_and_an_event_no_session() -> None:
    event = BINDINGS.event_out(ANA, "files", "", b"7").decode()
    session = BINDINGS.session_out(ANA, "files", "7")
    assert event != session
    assert opened(event) == "session_unknown"
    with pytest.raises(Refused):
        BINDINGS.event_in(ANA, "files", "", session)


def test_c13_however_many_sessions_are_known_each_is_its_owners_alone() -> None:
    bindings = Bindings(KEY)
    tagged = [bindings.session_out(ANA, "files", f"s-{n}") for n in range(KNOWN_MAX + 10)]
    for _ in range(2):
        assert bindings.session_in(ANA, "files", tagged[-1]) == f"s-{KNOWN_MAX + 9}"
        with pytest.raises(Refused):
            bindings.session_in(Principal("acme", "bob"), "files", tagged[-1])
    found = [bindings.session_in(ANA, "files", one) for one in tagged]
    assert found == [f"s-{n}" for n in range(KNOWN_MAX + 10)]
    assert bindings.session_in(ANA, "files", tagged[0]) == "s-0", "forgotten, and found anew"


def test_another_key_opens_nothing() -> None:
    tagged = Bindings(bytes(32)).session_out(ANA, "files", "s-1")
    assert opened(tagged) == "session_unknown"
