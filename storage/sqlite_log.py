"""SQLite's write-ahead log before it is opened: whether commits in it were damaged.

SQLite ends the log at the first frame that does not continue it, and says nothing. After a power
cut that is right: what is lost is the last transaction, which nobody was told of. A bit that
flipped further ahead takes commits with it that were acknowledged.

Knows: the log's format (https://www.sqlite.org/fileformat2.html#the_write_ahead_log), and the order
of things with synchronous = FULL: a frame of the next transaction is written only after the one
before was synced. So a frame that does not continue the log is no torn end if after it, or with it,
a transaction ends and another frame goes on from there. Of a last transaction that was not synced
any part may be there, but nothing goes on from its end. What an earlier attempt left further behind
goes on from nothing that is valid, and ends at its own end; frames from before the log began anew
have other salts. The log's header is synced before any frame; a sector (512 bytes) is written whole
or not at all.
Must not know: what the pages say, how a store is opened.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from storage.errors import StoreCorrupt
from storage.sqlite_file import _translated

SECTOR_BYTES: Final = 512
#: Frames that are read and summed up together, a few hundred KB. An even number.
FRAMES_TOGETHER: Final = 64

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_FRAME_WORDS: Final = 6
_SUM_BYTES: Final = 8
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_PAGE_BYTES_MIN, _PAGE_BYTES_MAX = 512, 65536
_DATABASE_PAGE_BYTES_AT: Final = 16
_WORD = 0xFFFFFFFF

_Sum = tuple[int, int]


class LogDamaged(StoreCorrupt):
    """Commits in the write-ahead log were damaged: opening would drop them, and all after them."""

    next_step = (
        "What was acknowledged would be missing without a word. Keep a copy of the file and of its "
        "-wal, then `store restore` a backup, or what `store salvage` makes of the copy."
    )


class _Frame(NamedTuple):
    """One frame: whether its transaction ends with it, what its header says, and the checksum of
    its content by itself."""

    number: int
    ends: bool
    salts: _Sum
    stored: _Sum
    own: _Sum


class _Log(NamedTuple):
    """How the log begins: `salts` is None if its header does not hold, `start` is what its first
    frame goes on from. `step` says what a frame makes of the checksum before it."""

    order: str
    page_bytes: int
    salts: _Sum | None
    start: _Sum
    step: tuple[_Sum, _Sum]

    def after(self, before: _Sum, frame: _Frame) -> _Sum:
        """The checksum a frame should have: it is linear, so that what is before can come last."""
        first, second = (
            (before[0] * by[0] + before[1] * by[1] + own) & _WORD
            for by, own in zip(self.step, frame.own, strict=True)
        )
        return first, second


def check_log(path: Path) -> None:
    """Walks the log beside the database at `path`, if there is one; nobody may be writing to it.

    Needs memory for a few frames. Raises LogDamaged, or another StoreError if it cannot be read.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        with log.open("rb") as handle:
            number = _damaged_frame(handle, path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _translated(error, log) from error
    if number is not None:
        what = f"frame {number}" if number else "the header"
        raise LogDamaged(f"{log}: {what} is damaged, and commits stand after it")


def _damaged_frame(handle: BinaryIO, database: Path) -> int | None:
    """The first frame that is damaged, 0 for the header; None for a log that holds, or of which
    only the last transaction is not whole."""
    log = _begun(handle, database)
    if log is None:
        return None
    frames = _frames(handle, log)
    if log.salts is None:
        first = next(frames, None)
        return 0 if first is not None and _goes_on(frames, log, first, None) else None
    at = log.start
    for frame in frames:
        found = log.after(at, frame)
        if frame.salts != log.salts or found != frame.stored:
            return frame.number if _goes_on(frames, log, frame, found) else None
        at = found
    return None


def _goes_on(frames: Iterator[_Frame], log: _Log, broken: _Frame, computed: _Sum | None) -> bool:
    """Whether a frame goes on from the end of a transaction, at `broken` or after it.

    `computed` is the checksum that the broken frame should have: if what it says of itself is what
    is damaged, the next frame goes on from that.
    """
    before, has_ended = broken, _surely_ends(broken, log, computed)
    for frame in frames:
        if frame.salts != (log.salts or before.salts):
            before, has_ended, computed = frame, False, None
            continue
        is_next = log.after(before.stored, frame) == frame.stored
        if not is_next and computed is not None:
            is_next = log.after(computed, frame) == frame.stored
        if is_next and has_ended:
            return True
        before, has_ended, computed = frame, is_next and frame.ends, None
    return False


def _surely_ends(frame: _Frame, log: _Log, computed: _Sum | None) -> bool:
    """Whether a frame that is broken was the last of its transaction.

    Its header is believed if its checksum holds, or if it was written whole: a page that arrived in
    part leaves it as it is, unless it lies across two sectors.
    """
    if not frame.ends:
        return False
    if computed == frame.stored:
        return True
    at = _HEADER.size + (frame.number - 1) * (_FRAME.size + log.page_bytes)
    is_in_one_sector = at // SECTOR_BYTES == (at + _FRAME.size - 1) // SECTOR_BYTES
    return is_in_one_sector and log.salts in (None, frame.salts)


def _begun(handle: BinaryIO, database: Path) -> _Log | None:
    """None for a log that has not begun."""
    header = handle.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, _, page_bytes, _, salt, other_salt, *stored = _HEADER.unpack(header)
    if magic in (_LITTLE, _BIG) and _is_page_size(page_bytes):
        order = "little" if magic == _LITTLE else "big"
        start = _header_sum(header, order)
        if start == tuple(stored):
            return _Log(order, page_bytes, (salt, other_salt), start, _step(page_bytes))
    page_bytes = _page_bytes_of(database)
    if not _is_page_size(page_bytes):
        return None
    return _Log(sys.byteorder, page_bytes, None, (0, 0), _step(page_bytes))


def _frames(handle: BinaryIO, log: _Log) -> Iterator[_Frame]:
    """The frames as they stand; what is left of one at the end is none."""
    number, whole_bytes = 0, _FRAME.size + log.page_bytes
    while block := handle.read(FRAMES_TOGETHER * whole_bytes):
        headers = [
            _FRAME.unpack_from(block, at)
            for at in range(0, len(block) - whole_bytes + 1, whole_bytes)
        ]
        own = [(0, 0)] * len(headers)
        if log.salts is None or any(header[2:4] == log.salts for header in headers):
            own = _own_sums(block[: len(headers) * whole_bytes], len(headers), log.order)
        for (page, size, *rest), one in zip(headers, own, strict=True):
            number += 1
            ends = page != 0 and size != 0
            yield _Frame(number, ends, (rest[0], rest[1]), (rest[2], rest[3]), one)


def _page_bytes_of(database: Path) -> int:
    with database.open("rb") as handle:
        handle.seek(_DATABASE_PAGE_BYTES_AT)
        said = int.from_bytes(handle.read(2), "big")
    return _PAGE_BYTES_MAX if said == 1 else said


def _is_page_size(page_bytes: int) -> bool:
    return _PAGE_BYTES_MIN <= page_bytes <= _PAGE_BYTES_MAX and page_bytes.bit_count() == 1


# -- checksums ---------------------------------------------------------------------------------
#
# Of two words at a time: first += word + second, second += other + first, without carry.


def _header_sum(header: bytes, order: str) -> _Sum:
    words = struct.unpack_from(f"{'<' if order == 'little' else '>'}6I", header)
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second


def _step(page_bytes: int) -> tuple[_Sum, _Sum]:
    """What a frame of zeros makes of a checksum: by what both of its numbers go into each."""
    one, other = (1, 0), (0, 1)
    for _ in range((_SUM_BYTES + page_bytes) // _SUM_BYTES):
        one = (one[0] + other[0]) & _WORD, (one[1] + other[1]) & _WORD
        other = (other[0] + one[0]) & _WORD, (other[1] + one[1]) & _WORD
    return one, other


def _own_sums(block: bytes, count: int, order: str) -> list[_Sum]:
    """The checksums of `count` frames, each as if nothing were before it.

    All at once, in numbers that have a lane of 64 bits for every second frame: one by one takes
    Python ten times as long, and a start waits for it.
    """
    found = array("I", block + bytes(len(block) // count * (count % 2)))
    if order == "big":
        found.byteswap()
    words, lanes = memoryview(found), (count + 1) // 2
    each = len(words) // (2 * lanes)
    low = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * lanes, "little")
    even, odd = (0, 0), (0, 0)
    # The page's number and the size first, then the page: salts and checksum are left out.
    for at in (0, *range(_FRAME_WORDS, each, 2)):
        one = int.from_bytes(words[at::each].tobytes(), "little")
        other = int.from_bytes(words[at + 1 :: each].tobytes(), "little")
        even = _added(even, one & low, other & low, low)
        odd = _added(odd, (one >> 32) & low, (other >> 32) & low, low)
    return [_lane(odd if number % 2 else even, number // 2) for number in range(count)]


def _added(sums: _Sum, one: int, other: int, low: int) -> _Sum:
    first = (sums[0] + one + sums[1]) & low
    return first, (sums[1] + other + first) & low


def _lane(sums: _Sum, lane: int) -> _Sum:
    return sums[0] >> (64 * lane) & _WORD, sums[1] >> (64 * lane) & _WORD
