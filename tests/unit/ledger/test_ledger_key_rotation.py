"""What a receipt says of a key that takes another's place: both have signed it, for this chain."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ledger_checkpoint_setup import key_of

from sidecar.ledger.key_rotation import read_rotation
from sidecar.signed_note import BadNote, Note, SigningKey

ORIGIN, OTHER = "aegis-sidecar/default/a", "aegis-sidecar/rival/b"
TITLE = "aegis-sidecar/key-rotation/v1"
OLD, NEW = key_of(1), key_of(2)


def said(
    keys: Sequence[tuple[SigningKey, str]],
    signed: Sequence[tuple[SigningKey, str]],
    title: str = TITLE,
    more: str = "",
) -> str:
    """A statement about these keys, each under the name of a chain, and who signed it."""
    named = "".join(f"{key.verifier(origin).text}\n" for key, origin in keys)
    text = f"{title}\n{ORIGIN}\n{named}{more}"
    return Note(text, tuple(key.sign(origin, text) for key, origin in signed)).whole


BOTH = ((OLD, ORIGIN), (NEW, ORIGIN))


def test_f2_a_rotation_that_both_keys_signed_holds() -> None:
    found = read_rotation(7, said(BOTH, BOTH))
    assert (found.seq, found.old, found.new) == (7, OLD.verifier(ORIGIN), NEW.verifier(ORIGIN))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (said(BOTH, BOTH[:1]), "one of the keys has not signed it"),
        (said(BOTH, BOTH[1:]), "one of the keys has not signed it"),
        (said(((OLD, ORIGIN), (NEW, OTHER)), ((OLD, ORIGIN), (NEW, OTHER))), "not one that signs"),
        (said(((OLD, OTHER), (NEW, OTHER)), ((OLD, OTHER), (NEW, OTHER))), "not one that signs"),
        (said(BOTH, BOTH, title="aegis-sidecar/key-rotation/v2"), "it is no rotation of keys"),
        (said(BOTH, BOTH, more="and more\n"), "it is no rotation of keys"),
        (None, "note"),
        ("", "note"),
    ],
)
def test_f2_what_else_is_signed_replaces_no_key(text: str | None, why: str) -> None:
    with pytest.raises(BadNote, match=why):
        read_rotation(7, text)
