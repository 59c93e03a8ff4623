"""A11, A2: damage in the write-ahead log is told from a last transaction that a power cut tore.

The logs are SQLite's own; what a transaction is in them is read from their frames here anew.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from storage.errors import StoreUnavailable
from storage.sqlite_log import SECTOR_BYTES, LogDamaged, check_log

HEADER, FRAME, PAGE = 32, 24, 4096
WHOLE = FRAME + PAGE


def connected(path: Path) -> sqlite3.Connection:
    """As the writer of a store is set up."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("PRAGMA wal_autocheckpoint = 0")
    raw.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT)")
    return raw


def commit(raw: sqlite3.Connection, rows: int, letter: str = "x") -> None:
    """One transaction of about so many pages, and few for none."""
    raw.execute("BEGIN IMMEDIATE")
    for _ in range(max(1, rows)):
        raw.execute("INSERT INTO rows (text) VALUES (?)", (letter * (3500 if rows else 5),))
    raw.execute("COMMIT")


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def ends(log: bytes) -> list[int]:
    """The numbers of the frames that end transactions, of those with the header's salts."""
    found = []
    for number, at in enumerate(range(HEADER, len(log) - WHOLE + 1, WHOLE)):
        _, size, *salts = struct.unpack(">4I", log[at : at + 16])
        if salts == list(struct.unpack(">2I", log[16:24])) and size:
            found.append(number)
    return found


def last_start(log: bytes) -> int:
    """The first frame of the last transaction."""
    return ends(log)[-2] + 1


class Crashed:
    """What a crash leaves, of a store whose log had begun anew once."""

    def __init__(self, folder: Path, sizes: tuple[int, ...] = (3, 0, 0, 2, 5, 0)) -> None:
        self.path = folder / "store.db"
        with closing(connected(self.path)) as raw:
            for number in range(30):
                commit(raw, number % 4)
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)")
            for rows in sizes[:-1]:
                commit(raw, rows)
            self.before = log_of(self.path).read_bytes()
            commit(raw, sizes[-1])
            self.after = log_of(self.path).read_bytes()
            self.database = self.path.read_bytes()
        self.path = folder / "crashed.db"
        self.path.write_bytes(self.database)

    def is_refused(self, log: bytes) -> bool:
        log_of(self.path).write_bytes(log)
        try:
            check_log(self.path)
        except LogDamaged as error:
            assert "is damaged, and commits stand after it" in str(error)
            assert error.code == "store_corrupt" and "salvage" in error.next_step
            return True
        return False

    def rows(self, log: bytes) -> int:
        """How many rows SQLite finds."""
        path = self.path.with_name("found.db")
        for one in path.parent.glob("found.db*"):
            one.unlink()
        path.write_bytes(self.database)
        log_of(path).write_bytes(log)
        with closing(sqlite3.connect(path)) as raw:
            return int(raw.execute("SELECT count(*) FROM rows").fetchone()[0])


def test_a11_a_whole_log_is_none_to_refuse(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    assert (
        len(ends(crashed.after)) == 6 and len(crashed.after) // WHOLE > ends(crashed.after)[-1] + 5
    )
    for log in (crashed.after, crashed.before, b"", crashed.after[:20], crashed.after[:HEADER]):
        assert not crashed.is_refused(log)
    log_of(crashed.path).unlink()
    check_log(crashed.path)


@pytest.mark.parametrize("seed", range(2))
def test_a11_one_flipped_bit_in_any_commit_but_the_last_is_refused(
    tmp_path: Path, seed: int
) -> None:
    crashed, chance, lost = Crashed(tmp_path), Random(seed), 0
    whole, start = crashed.after, last_start(crashed.after)
    for number in range(start):
        at = HEADER + number * WHOLE
        header = struct.unpack(">6I", whole[at : at + FRAME])
        for byte in [*range(FRAME), *(FRAME + chance.randrange(PAGE) for _ in range(4))]:
            flipped, bit = bytearray(whole), 1 << chance.randrange(8)
            flipped[at + byte] ^= bit
            if header[1] and not any(flipped[at + 4 : at + 8]):
                continue  # it says that it ends nothing: only what follows could tell
            assert crashed.is_refused(bytes(flipped)), (number, byte, bit)
            lost += 1
    assert lost > 250
    # positive control: SQLite says nothing, and has fewer
    assert crashed.rows(bytes(flipped)) < crashed.rows(whole)


def test_a11_a_flipped_bit_in_the_header_is_refused(tmp_path: Path) -> None:
    crashed, chance = Crashed(tmp_path), Random(1)
    for byte in range(HEADER):
        flipped = bytearray(crashed.after)
        flipped[byte] ^= 1 << chance.randrange(8)
        assert crashed.is_refused(bytes(flipped)), byte
    assert crashed.rows(bytes(flipped)) < crashed.rows(crashed.after), "positive control"


def test_a11_pages_that_were_overwritten_are_refused(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    for number in range(last_start(crashed.after) - 4):
        for filler in (b"\0" * PAGE, Random(number).randbytes(PAGE)):
            torn = bytearray(crashed.after)
            at = (HEADER + number * WHOLE) // PAGE * PAGE
            torn[at : at + PAGE] = filler
            assert crashed.is_refused(bytes(torn)), number


@pytest.mark.parametrize("sizes", [
    (3, 0, 0, 2, 5, 0), (2, 0, 9), (1, 12), (0, 0, 0, 40), (5, 5, 5, 1), (80,),
])  # fmt: skip
def test_a2_any_part_of_a_last_transaction_that_was_not_synced_opens(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    """Sector by sector, the last transaction has arrived or what was there before is left."""
    crashed = Crashed(tmp_path, sizes)
    before, after = crashed.before, crashed.after
    end = HEADER + (ends(after)[-1] + 1) * WHOLE
    changed = [at for at in range(0, end, SECTOR_BYTES) if before[at:][:512] != after[at:][:512]]
    assert changed
    for seed in range(120):
        chance = Random(seed)
        share = chance.choice((0.02, 0.2, 0.5, 0.8, 0.98))
        filler = chance.choice((b"\0", b"\xff", None))
        torn = bytearray(before)
        torn[:HEADER] = after[:HEADER]  # synced by itself, before any frame
        missing = end - len(torn)
        torn += filler * missing if filler else chance.randbytes(max(0, missing))
        for at in changed:
            if chance.random() < share:
                torn[at : at + SECTOR_BYTES] = after[at : at + SECTOR_BYTES]
        if chance.random() < 0.3:
            del torn[chance.choice(changed) + chance.randrange(SECTOR_BYTES) :]
        assert not crashed.is_refused(bytes(torn)), seed


@pytest.mark.parametrize("sizes", [(12, 4, 0), (4, 1), (9,), (30, 0, 12)])
def test_a2_what_earlier_attempts_left_behind_the_end_opens(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    """Commits that failed, or were torn, each written over the one before, and then one that was
    not."""
    crashed = Crashed(tmp_path)
    log, base = bytearray(crashed.after), crashed.after
    start = HEADER + (ends(base)[-1] + 1) * WHOLE
    for number, rows in enumerate((*sizes, 1)):
        path = tmp_path / f"attempt-{number}.db"
        path.write_bytes(crashed.database)
        log_of(path).write_bytes(base)
        with closing(connected(path)) as raw:
            commit(raw, rows, "abcdef"[number])
            found = log_of(path).read_bytes()
        assert found[16:24] == base[16:24], "it went on with the same salts"
        end = HEADER + (ends(found)[-1] + 1) * WHOLE
        log[start:end] = found[start:end]
    assert not crashed.is_refused(bytes(log))
    assert crashed.rows(bytes(log)) == crashed.rows(base) + 1
    log[start - 2 * WHOLE] ^= 1
    assert crashed.is_refused(bytes(log)), "positive control: ahead of them"


def test_a11_a_log_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    log_of(crashed.path).mkdir()
    with pytest.raises(StoreUnavailable):
        check_log(crashed.path)
    shutil.rmtree(log_of(crashed.path))
