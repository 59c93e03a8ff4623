"""What a disk holds after the power went: files as any order of lost and torn writes leaves them.

Knows: the promise of a sync, and nothing more. What was written to a file before a sync of it
that came back is there; of what was written after, each 512-byte sector may be there or not, in
any order, and the file may have grown without its data. A name is there or gone for certain only
after a sync of the folder. Bytes outside of what was written stay as they were (SQLite counts on
that too, under the name of powersafe overwrite).
Must not know: what the files hold, or how a trace was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from power_cut_trace import Event, Link, Rename, Sync, Truncate, Unlink, Write

SECTOR_BYTES = 512
PAGE_BYTES = 4096

#: How the unsynced calls fare; see `_survivors`.
PATTERNS = ("lost", "kept", "prefix", "suffix", "one-lost", "gaps", "sectors", "pages")

#: One surviving piece: file number, offset, data; or a size (data None).
Piece = tuple[int, int, bytes | None]


@dataclass
class Disk:
    """Durable contents and names, and what was done to them that no sync covers yet."""

    contents: dict[int, bytearray] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    #: Calls on contents that are not durable, oldest first, with the file's number.
    pending: list[tuple[int, Write | Truncate]] = field(default_factory=list)
    #: Changes of names that are not durable, oldest first: name, and its file or None.
    pending_names: list[tuple[str, int | None]] = field(default_factory=list)
    #: Names as the running system sees them.
    seen: dict[str, int] = field(default_factory=dict)

    @classmethod
    def holding(cls, files: Mapping[str, bytes]) -> Disk:
        """A disk on which these files are durable."""
        disk = cls()
        for number, (name, content) in enumerate(files.items()):
            disk.contents[number] = bytearray(content)
            disk.names[name] = disk.seen[name] = number
        return disk

    def apply(self, event: Event) -> None:
        """Takes the next event."""
        if isinstance(event, Write | Truncate):
            self.pending.append((self.seen[event.name], event))
        elif isinstance(event, Sync):
            self._sync(event)
        elif isinstance(event, Link):
            if event.name not in self.seen:
                number = len(self.contents)
                self.contents[number] = bytearray()
                self._name(event.name, number)
        elif isinstance(event, Unlink):
            self._name(event.name, None)
        elif isinstance(event, Rename):
            number = self.seen[event.name]
            self._name(event.new_name, number)
            self._name(event.name, None)

    def pending_of(self, name: str) -> list[Write | Truncate]:
        """What is not durable of a file."""
        number = self.seen.get(name)
        return [call for at, call in self.pending if at == number]

    def _name(self, name: str, number: int | None) -> None:
        if number is None:
            self.seen.pop(name, None)
        else:
            self.seen[name] = number
        self.pending_names.append((name, number))

    def _sync(self, event: Sync) -> None:
        if not event.name:
            for name, number in self.pending_names:
                _set_name(self.names, name, number)
            self.pending_names.clear()
            return
        number = self.seen.get(event.name)
        left: list[tuple[int, Write | Truncate]] = []
        for at, call in self.pending:
            if at == number and call.ended < event.begun:
                _put(self.contents[at], _whole(at, call), b"\0")
            else:
                left.append((at, call))
        self.pending = left


def rebuild(disk: Disk, chance: Random, pattern: str) -> dict[str, bytes]:
    """The files as they may be found after a cut: all that is durable, some of the rest."""
    names = dict(disk.names)
    for name, number in _surviving_names(disk.pending_names, chance, pattern):
        _set_name(names, name, number)
    reached = set(names.values())
    contents = {number: bytearray(disk.contents[number]) for number in reached}
    pending = [(number, call) for number, call in disk.pending if number in reached]
    pieces = _survivors(pending, chance, pattern)
    if pattern not in ("lost", "kept") and chance.random() < 0.3:
        chance.shuffle(pieces)
    filler = chance.randbytes(PAGE_BYTES) if chance.random() < 0.3 else b"\0"
    for piece in pieces:
        _put(contents[piece[0]], piece, filler)
    return {name: bytes(contents[number]) for name, number in names.items()}


def _surviving_names(
    pending: Sequence[tuple[str, int | None]], chance: Random, pattern: str
) -> Sequence[tuple[str, int | None]]:
    if pattern == "lost":
        return ()
    if pattern == "kept":
        return pending
    if chance.random() < 0.5:
        return pending[: chance.randint(0, len(pending))]
    return [change for change in pending if chance.random() < 0.5]


def _survivors(
    pending: Sequence[tuple[int, Write | Truncate]], chance: Random, pattern: str
) -> list[Piece]:
    """The pieces of unsynced calls that are on the disk after all."""
    count = len(pending)
    whole = [_whole(number, call) for number, call in pending]
    if pattern == "lost" or not count:
        return []
    if pattern == "kept":
        return whole
    if pattern == "one-lost":
        del whole[chance.randrange(count)]
        return whole
    at = chance.randrange(count)
    if pattern == "prefix":
        return whole[:at] + _torn(whole[at], chance, SECTOR_BYTES)
    if pattern == "suffix":
        return _torn(whole[at], chance, SECTOR_BYTES) + whole[at + 1 :]
    pieces: list[Piece] = []
    for piece in whole:
        if pattern == "sectors":
            pieces += _torn(piece, chance, SECTOR_BYTES)
        elif pattern == "pages":
            pieces += _torn(piece, chance, PAGE_BYTES)
        else:
            fate = chance.random()
            if fate < 0.5:
                pieces.append(piece)
            elif fate < 0.6:
                pieces += _torn(piece, chance, SECTOR_BYTES)
            elif fate < 0.65 and piece[2] is not None:
                # The file has grown, what was written has not arrived.
                pieces.append((piece[0], piece[1] + len(piece[2]), b""))
    return pieces


def _torn(piece: Piece, chance: Random, part_bytes: int) -> list[Piece]:
    """Those parts of a piece that arrived, cut at the file's sector or page borders."""
    number, offset, data = piece
    if data is None:
        return [piece] if chance.random() < 0.5 else []
    share = chance.choice((0.2, 0.5, 0.9))
    parts: list[Piece] = []
    at, end = offset, offset + len(data)
    while at < end:
        border = min(end, (at // part_bytes + 1) * part_bytes)
        if chance.random() < share:
            parts.append((number, at, data[at - offset : border - offset]))
        at = border
    return parts


def _whole(number: int, call: Write | Truncate) -> Piece:
    if isinstance(call, Write):
        return number, call.offset, call.data
    return number, call.size, None


def _put(content: bytearray, piece: Piece, filler: bytes) -> None:
    """Writes a piece; what lies between the file's old end and the piece is `filler`."""
    _, offset, data = piece
    missing = offset - len(content)
    if missing > 0:
        content += (filler * (missing // len(filler) + 1))[:missing]
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _set_name(names: dict[str, int], name: str, number: int | None) -> None:
    if number is None:
        names.pop(name, None)
    else:
        names[name] = number
