"""What runs on a SQLite connection's own thread: its settings, a transaction, a checkpoint step.

Knows: `sqlite3` and the order BEGIN, script, COMMIT. Must not know: the event loop, what a
script is about, or how connections are opened and replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from storage.driver import (
    Guarded,
    Many,
    One,
    Row,
    Script,
    Step,
    Together,
    UnfitRow,
    Value,
)
from storage.errors import CommitUnknown, StoreBusy, StoreUnavailable, UnsupportedStore
from storage.sqlite_errors import is_certainly_not_committed, is_distrustful, translated
from storage.statements import nameless, widened

T = TypeVar("T")

#: A busy timeout of 5 s, waited for in 5 parts so that waiting can be counted.
BUSY_WAITS = 5
BUSY_WAIT_MS = 1_000
#: Numbers of rows that one step takes; each is a statement that SQLite keeps prepared.
ROWS_A_STEP = (64, 16, 4)
#: The WAL file shrinks to this when it starts over.
WAL_BYTES_KEPT = 16 * 1024 * 1024


@dataclass(slots=True)
class WriterState:
    """What outlives one writer connection: counters, and whether the connection is in doubt."""

    is_distrusted: bool = False
    file_identity: tuple[int, int] = (0, 0)
    commits_total: int = 0
    rows_total: int = 0
    busy_retries_total: int = 0
    checkpoints_total: int = 0
    checkpoint_failures_total: int = 0
    checkpoint_ns_total: int = 0
    reopened_total: int = 0


def identity_of(path: Path) -> tuple[int, int]:
    """Device and inode; raises StoreUnavailable if the file is not there."""
    try:
        found = path.stat()
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    return found.st_dev, found.st_ino


def prepare_writer(raw: sqlite3.Connection) -> None:
    """Settings of the one writing connection; those that carry the promise are read back."""
    with_translation(raw, _set_up_writer)


def prepare_reader(raw: sqlite3.Connection) -> None:
    """Settings of a connection that can only read."""
    with_translation(raw, _set_up_reader)


def _set_up_writer(raw: sqlite3.Connection) -> None:
    raw.execute(f"PRAGMA busy_timeout = {BUSY_WAIT_MS * BUSY_WAITS}")
    mode = raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise UnsupportedStore(f"the file system does not carry a write-ahead log (got {mode!r})")
    raw.execute("PRAGMA synchronous = FULL")
    level = raw.execute("PRAGMA synchronous").fetchone()[0]
    if level != 2:
        raise UnsupportedStore(f"synchronous is {level}, not FULL: commits would not be durable")
    raw.execute("PRAGMA fullfsync = ON")
    raw.execute("PRAGMA wal_autocheckpoint = 0")
    raw.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    raw.execute("PRAGMA mmap_size = 0")
    # Keys grow in order, so the pages that are written stay: with one tenant and with 300, in
    # batches of 32 calls and of 256, 4 MB were no faster, and 16 MB not with 600,000 receipts.
    raw.execute("PRAGMA cache_size = -2000")
    raw.execute("PRAGMA temp_store = MEMORY")
    raw.execute("PRAGMA trusted_schema = OFF")
    raw.execute("PRAGMA cell_size_check = ON")
    raw.execute(f"PRAGMA busy_timeout = {BUSY_WAIT_MS}")


def _set_up_reader(raw: sqlite3.Connection) -> None:
    raw.execute(f"PRAGMA busy_timeout = {BUSY_WAIT_MS}")
    raw.execute("PRAGMA query_only = ON")
    raw.execute("PRAGMA wal_autocheckpoint = 0")
    raw.execute("PRAGMA temp_store = MEMORY")
    raw.execute("PRAGMA trusted_schema = OFF")
    raw.execute("PRAGMA schema_version").fetchone()  # reads the file, so that it fails here


def with_translation(raw: sqlite3.Connection, function: Callable[[sqlite3.Connection], T]) -> T:
    """`function(raw)`, with errors in the words of storage.errors."""
    try:
        return function(raw)
    except Exception as error:
        raise translated(error) from error


def read(sql: str, parameters: Sequence[Value], raw: sqlite3.Connection) -> list[Row]:
    """All rows of one query: no snapshot stays open after it."""
    return with_translation(raw, lambda raw: raw.execute(sql, parameters).fetchall())


def read_some(
    sql: str, parameters: Sequence[Value], bytes_max: int, raw: sqlite3.Connection
) -> list[Row]:
    """The same up to a row that reaches the bound, as `Driver.fetch` says; what stands after it is
    not touched: SQLite gives a row when it is asked for it."""
    return with_translation(raw, lambda raw: _some(raw.execute(sql, parameters), bytes_max))


def _some(cursor: sqlite3.Cursor, bytes_max: int) -> list[Row]:
    """Spelled out for two columns: a loop over them costs twice that."""
    rows: list[Row] = []
    add = rows.append
    for row in cursor:
        add(row)
        text = row[-1]
        if text is not None:
            bytes_max -= len(text) if text.isascii() else len(text.encode())
        text = row[-2]
        if text is not None:
            bytes_max -= len(text) if text.isascii() else len(text.encode())
        if bytes_max <= 0:
            break
    cursor.close()  # no snapshot stays open
    return rows


def run_transaction(
    state: WriterState,
    path: Path,
    make_script: Callable[[], Script[T]],
    raw: sqlite3.Connection,
) -> T:
    """BEGIN IMMEDIATE, the script, COMMIT. Raises as `Driver.transaction` says."""
    if state.is_distrusted:
        raise StoreUnavailable("the connection failed and is being replaced")
    if identity_of(path) != state.file_identity:
        state.is_distrusted = True
        raise StoreUnavailable(f"{path} was replaced while it was open")
    rows_before = raw.total_changes
    try:
        _begin(state, raw)
        answer = drive(raw, make_script())
    except BaseException as error:
        state.is_distrusted |= is_distrustful(error)
        _roll_back(state, raw)
        raise
    _commit(state, raw)
    state.commits_total += 1
    state.rows_total += raw.total_changes - rows_before
    return answer


def _begin(state: WriterState, raw: sqlite3.Connection) -> None:
    """IMMEDIATE: a transaction that began by reading could not wait for the write lock."""
    left = BUSY_WAITS
    while True:
        try:
            raw.execute("BEGIN IMMEDIATE")
            return
        except Exception as error:
            known = translated(error)
            left -= 1
            if not left or not isinstance(known, StoreBusy):
                raise known from error
            state.busy_retries_total += 1


def drive(raw: sqlite3.Connection, script: Script[T]) -> T:
    """Runs the script to its end; an error of a statement is raised inside the script."""
    try:
        step = next(script)
        while True:
            try:
                result = _perform(raw, step)
            except Exception as error:
                step = script.throw(translated(error))
            else:
                step = script.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


def _perform(raw: sqlite3.Connection, step: Step) -> Any:
    if isinstance(step, One):
        return raw.execute(step.sql, step.parameters).fetchall()
    if isinstance(step, Together):
        return [run_many(raw, one.sql, one.rows) for one in step.steps]
    if isinstance(step, Many):
        return run_many(raw, step.sql, step.rows)
    if isinstance(step, Guarded):
        return _perform_guarded(raw, step)
    raise TypeError(f"{type(step).__name__} is no step")


def _perform_guarded(raw: sqlite3.Connection, step: Guarded) -> bool:
    """Whether the guard holds of every row; then all steps are done. The file is locked as a
    whole, so that what holds now holds at COMMIT."""
    for row in step.known:
        if raw.execute(step.guard, row).fetchone() is None:
            return False
    for number, one in enumerate(step.steps):
        changed = run_many(raw, one.sql, one.rows)
        if not number and changed != len(one.rows):
            raise UnfitRow(f"{len(one.rows) - changed} of the first step's rows changed nothing")
    return True


def run_many(raw: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Value]]) -> int:
    """Runs a statement for all rows in as few steps as there are texts for; rows changed."""
    changed = at = 0
    for width in ROWS_A_STEP:
        wide = widened(sql, width) if len(rows) - at >= width else None
        while wide is not None and len(rows) - at >= width:
            values = list(chain.from_iterable(rows[at : at + width]))
            changed += raw.execute(nameless(wide), values).rowcount
            at += width
    if at < len(rows):
        # sqlite3 binds a plain tuple a fifth faster than a named one, and copying costs little.
        changed += raw.executemany(nameless(sql), map(tuple, rows[at:])).rowcount
    return changed


def _commit(state: WriterState, raw: sqlite3.Connection) -> None:
    try:
        raw.execute("COMMIT")
    except Exception as error:
        _roll_back(state, raw)
        known = translated(error)
        if is_certainly_not_committed(known):
            raise known from error
        state.is_distrusted = True
        raise CommitUnknown(f"the commit failed: {error}") from error


def _roll_back(state: WriterState, raw: sqlite3.Connection) -> None:
    """Undoes what is open. SQLite did so itself after some errors; a failure here is distrust."""
    if not raw.in_transaction:
        return
    try:
        raw.execute("ROLLBACK")
    except sqlite3.Error:
        state.is_distrusted = True


def checkpoint_step(
    state: WriterState, monotonic_ns: Callable[[], int], raw: sqlite3.Connection
) -> None:
    """Carries what it can from the WAL into the file, waiting for nobody.

    A failure loses nothing (the WAL keeps all) and is counted; if the connection is in doubt
    the next transaction replaces it, and raises if that cannot be done.
    """
    if state.is_distrusted:
        return
    started_ns = monotonic_ns()
    state.checkpoints_total += 1
    try:
        raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.Error as error:
        state.checkpoint_failures_total += 1
        state.is_distrusted |= is_distrustful(error)
    state.checkpoint_ns_total += monotonic_ns() - started_ns
