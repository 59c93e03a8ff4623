"""What was said and done about an alert or an incident, as the store keeps it. Pure.

Knows: that notes are only added, each with who, when and what. Must not know: what may be done.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

#: Notes people may add. Moves stand among them; there is room for every move beside.
NOTES_MAX: Final = 200
NOTE_CHARS_MAX: Final = 1024


class Note(NamedTuple):
    """`did` is a move (acknowledge, contain, close), `note`, `recommend` or `respond`."""

    at_us: int
    actor: str
    did: str
    text: str


def notes_text(notes: tuple[Note, ...]) -> str:
    """As the store keeps them."""
    return orjson.dumps([one._asdict() for one in notes]).decode()


def read_notes(text: str) -> tuple[Note, ...]:
    """What `notes_text` gave. Raises ValueError for anything else."""
    try:
        return tuple(_read(one) for one in orjson.loads(text))
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no notes: {error}") from error


def with_note(text: str, note: Note) -> str:
    """Notes with one more."""
    return notes_text((*read_notes(text), note))


def _read(one: dict[str, Any]) -> Note:
    return Note(int(one["at_us"]), str(one["actor"]), str(one["did"]), str(one["text"]))
