"""Checkpoints in a file that is only appended to: one JSON object a line, with the note in it.

Knows: a file for all chains, or a folder with one for each; how lines are added so that a crash
leaves whole ones, and are read again, also by whoever verifies. A file that somebody else made
append-only (`chattr +a`, another machine's share, write-once media) is one the process cannot
rewrite. Must not know: stores, keys, whether what is there is ours.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

from sidecar.ledger.checkpoint import Checkpoint, read_signed
from sidecar.signed_note import NOTE_BYTES_MAX, BadNote, Note

#: How far back a file is read: what is older than that is not looked at when a sidecar starts, and
#: whoever verifies keeps sizes and roots alone of it.
BYTES_READ_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 2 * NOTE_BYTES_MAX
#: How a line of ours begins; its note begins with the origin.
_LINE_BEGINS, _NOTE_BEGINS = b'{"at_us": ', b', "note": "'
SUFFIX = ".checkpoints"
MODE = 0o640


class Kept(NamedTuple):
    """A checkpoint that was found somewhere; nothing says that its signatures hold."""

    checkpoint: Checkpoint
    note: Note


def line_of(note: str, at_us: int) -> bytes:
    """A note as a line."""
    return json.dumps({"at_us": at_us, "note": note}, ensure_ascii=False).encode() + b"\n"


def read_line(line: bytes) -> Kept | None:
    """None for a line that is none of ours, or was cut off by a crash."""
    if len(line) > LINE_BYTES_MAX:
        return None
    try:
        said = json.loads(line)
        checkpoint, note = read_signed(said["note"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Kept(checkpoint, note)


def kept_in(path: Path, bytes_max: int = BYTES_READ_MAX) -> Iterator[Kept]:
    """What a file of lines, or one bare note, holds; oldest first. Raises OSError."""
    return (kept for kept in lines_in(path, bytes_max) if kept is not None)


def lines_in(path: Path, bytes_max: int = BYTES_READ_MAX) -> Iterator[Kept | None]:
    """The same, with None for each line that holds no head: a file is only appended to, so a crash
    left it, or somebody else. Raises OSError."""
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        if size <= min(bytes_max, NOTE_BYTES_MAX):
            try:
                yield Kept(*read_signed(handle.read().decode("utf-8")))
                return
            except (BadNote, UnicodeDecodeError):
                handle.seek(0)
        for line in _raw_lines(handle, size, bytes_max):
            yield read_line(line)


def older_in(path: Path, bytes_max: int = BYTES_READ_MAX) -> Iterator[Kept | None]:
    """What stands further back than `lines_in` reads, which is to be asked first: the file may grow
    meanwhile. Raises OSError."""
    with path.open("rb") as handle:
        last = os.fstat(handle.fileno()).st_size - bytes_max
        if last <= 0:
            return
        # The line that begins there is the one `_raw_lines` takes for a part of one.
        while handle.tell() <= last and (line := handle.readline(LINE_BYTES_MAX + 1)):
            yield read_line(line)


def _raw_lines(handle: BinaryIO, size: int, bytes_max: int) -> Iterator[bytes]:
    """Lines of a file from its beginning, or from as far back as it is read."""
    if size > bytes_max:
        handle.seek(size - bytes_max)
        handle.readline(LINE_BYTES_MAX)
    while line := handle.readline(LINE_BYTES_MAX + 1):
        yield line


def last_of_each(path: Path) -> dict[str, Kept]:
    """The last checkpoint of each origin in a file, or in all files of a folder."""
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.name.endswith(SUFFIX))
    else:
        files = [path] if path.exists() else []
    found: dict[str, Kept] = {}
    for file in files:
        found |= _last_in(file)
    return found


def _last_in(path: Path) -> dict[str, Kept]:
    """The last of each origin. A file of years has hundreds of thousands of lines: of those that
    are as we write them only the last of each origin is read as a note. Raises OSError."""
    last: dict[bytes, bytes] = {}
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        for line in _raw_lines(handle, size, BYTES_READ_MAX):
            start, begins, note = line.partition(_NOTE_BEGINS)
            if begins and start.startswith(_LINE_BEGINS):
                last[note.partition(b"\\n")[0]] = line
            elif (other := read_line(line)) is not None:
                last[other.checkpoint.origin.encode()] = line
    found: dict[str, Kept] = {}
    for origin, line in last.items():
        kept = read_line(line)
        if kept is None or kept.checkpoint.origin.encode() != origin:
            break
        found[kept.checkpoint.origin] = kept
    if size > NOTE_BYTES_MAX and len(found) == len(last):
        return found
    # A bare note, or a line that is not what it looks like: then each is looked into.
    return {kept.checkpoint.origin: kept for kept in kept_in(path)}


class CheckpointFile:
    """Where the checkpoints of one target go. It may wait for a disk: call it on a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: By file: where it ended when it was last read or written here, and what each origin's
        #: last was by then.
        self._known: dict[Path, tuple[int, dict[str, Kept]]] = {}

    def file_of(self, origin: str) -> Path:
        """A folder has a file for each chain."""
        if not self.path.is_dir():
            return self.path
        _, tenant, mark = origin.split("/")
        return self.path / f"{quote(tenant, safe='%')}.{mark}{SUFFIX}"

    def last(self, origin: str) -> Kept | None:
        """The last checkpoint of an origin that is there. Raises OSError."""
        path = self.file_of(origin)
        try:
            end = path.stat().st_size
        except FileNotFoundError:
            self._known.pop(path, None)
            return None
        known = self._known.get(path)
        if known is None or known[0] != end:
            known = self._known[path] = end, _last_in(path)
        return known[1].get(origin)

    def append(self, kept: Kept, at_us: int) -> bool:
        """Adds a line, durably; False if the file is not as `last` found it: look again.

        Raises OSError.
        """
        origin = kept.checkpoint.origin
        path = self.file_of(origin)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = os.fstat(descriptor).st_size
            known_end, heads = self._known.get(path, (0, {}))
            if end != known_end:
                return False
            line = line_of(kept.note.whole, at_us)
            if end and os.pread(descriptor, 1, end - 1) != b"\n":
                line = b"\n" + line  # a crash left the last line cut off
            _write_all(descriptor, line)
            os.fsync(descriptor)
            self._known[path] = end + len(line), heads | {origin: kept}
        finally:
            os.close(descriptor)
        if end == 0:
            _sync_folder(path.parent)
        return True


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
