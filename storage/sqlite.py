"""The SQLite driver: one connection writes and checkpoints, a few others only read.

Knows: when connections are opened, distrusted, replaced and closed. The only file that names
aiosqlite. Must not know: what a script is about.
The hard thing: durability hangs on never going on after a failed write or fsync. A connection
that saw one is closed, a new one is opened, and the tail of the store is checked on it before
the next transaction. One connection doing all writes and all checkpoints also keeps clear of
SQLite's WAL-reset bug (before 3.51.3), which needs two.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite

from storage.driver import Row, Script, StoreFacts, Value
from storage.errors import ReadTimeout, StoreError, StoreUnavailable
from storage.scopes import Scopes
from storage.sqlite_errors import is_distrustful, translated, was_interrupted
from storage.sqlite_file import FileLock, check_place, create_private, place_warnings
from storage.sqlite_log import check_log
from storage.sqlite_thread import (
    WriterState,
    checkpoint_step,
    identity_of,
    prepare_reader,
    prepare_writer,
    read,
    read_some,
    run_transaction,
)
from storage.statements import load_statements

T = TypeVar("T")

#: Measured: a page that was written often is copied once, so that rarer steps carry more calls
#: (every 5 batches: 15-32 % fewer). Every 40, the p99 of a commit is that of a checkpoint, 1.1-1.2
#: times what it may be; every 20 it is 0.7-1.0 of that, for 0-10 % of the calls.
BATCHES_PER_CHECKPOINT = 20
READERS = 2
READ_LIMIT_S = 5.0
#: How long a connection that is not wanted any more may take to have been opened.
LEAVE_S = 1.0


async def on_thread(
    connection: aiosqlite.Connection, function: Callable[[sqlite3.Connection], T]
) -> T:
    """Runs `function` on the connection's thread with the plain sqlite3 connection: one hop.

    aiosqlite's public verbs are one hop per statement. `_execute` and `_conn` are private; a
    test pins them to the version we require. Raises StoreUnavailable if the connection is closed.
    """
    try:
        raw = connection._conn
        ready = connection._execute(function, raw)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise StoreUnavailable("the connection is closed") from error
    result: T = await ready
    return result


async def _open(
    path: Path, mode: str, prepare: Callable[[sqlite3.Connection], None]
) -> aiosqlite.Connection:
    """A prepared connection; `mode` is 'rw' or 'ro', never one that creates."""
    opening = aiosqlite.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, cached_statements=256
    )
    try:
        connection = await opening
    except sqlite3.Error as error:
        # Its thread has something to say to this loop yet, which a command is about to close.
        await asyncio.to_thread(opening._thread.join)
        raise translated(error) from error
    except asyncio.CancelledError:
        await asyncio.to_thread(opening._thread.join, LEAVE_S)  # likewise
        raise
    try:
        await on_thread(connection, prepare)
    except BaseException:
        await connection.close()
        raise
    return connection


class SqliteReaders:
    """A few connections that can only read; opened when first needed."""

    def __init__(self, path: Path, *, count: int = READERS, limit_s: float = READ_LIMIT_S) -> None:
        self._path = path
        self._limit_s = limit_s
        self._scopes = Scopes(load_statements("sqlite"))
        self._turns = asyncio.Semaphore(count)
        self._free: list[aiosqlite.Connection] = []
        self._open: set[aiosqlite.Connection] = set()
        self._is_closed = False

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """All rows of one query, or those up to `bytes_max` (`Driver.fetch`); ReadTimeout if it
        takes longer than the limit.

        A file guards no rows, but UnscopedRead is raised as of a server: for a read without a
        tenant, unless it is known that none is to be named. The limit bounds how long a reader can
        keep the WAL from starting over.
        """
        self._scopes.of_read(sql, tenant)
        reading = partial(read, sql, parameters)
        if bytes_max is not None:
            reading = partial(read_some, sql, parameters, bytes_max)
        async with self._turns:
            connection = await self._take()
            interrupt = connection._conn.interrupt
            cut_off = asyncio.get_running_loop().call_later(self._limit_s, interrupt)
            try:
                rows = await on_thread(connection, reading)
            except asyncio.CancelledError:
                interrupt()
                self._free.append(connection)
                raise
            except StoreError as error:
                await self._give_back(connection, is_distrustful(error))
                if was_interrupted(error):
                    raise ReadTimeout(str(error)) from error
                raise
            finally:
                cut_off.cancel()
            await self._give_back(connection, False)
            return rows

    async def _take(self) -> aiosqlite.Connection:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        if self._free:
            return self._free.pop()
        connection = await _open(self._path, "ro", prepare_reader)
        self._open.add(connection)
        return connection

    async def _give_back(self, connection: aiosqlite.Connection, is_distrusted: bool) -> None:
        if is_distrusted or self._is_closed:
            self._open.discard(connection)
            await connection.close()
        else:
            self._free.append(connection)

    async def close(self) -> None:
        """Idempotent. Reads under way end first."""
        self._is_closed = True
        while self._open:
            await self._open.pop().close()
        self._free.clear()


class SqliteDriver:
    """`storage.driver.Driver` over one SQLite file, held by this process alone."""

    def __init__(
        self,
        path: Path,
        *,
        verify_tail: Callable[[], Script[None]],
        monotonic_ns: Callable[[], int],
        read_limit_s: float = READ_LIMIT_S,
    ) -> None:
        """`verify_tail` raises StoreCorrupt if the store's end is not in order."""
        self._path = path
        self._verify_tail = verify_tail
        self._monotonic_ns = monotonic_ns
        self._readers = SqliteReaders(path, limit_s=read_limit_s)
        self._state = WriterState()
        self._turn = asyncio.Lock()
        self._writer: aiosqlite.Connection | None = None
        self._lock: FileLock | None = None
        self._batches = 0
        self._warnings: tuple[str, ...] = ()

    async def open(self) -> None:
        """Takes the file's lock and opens the writer; a new file is made if there is none.

        A log that a crash left is walked first: SQLite would drop damaged commits in silence.
        Raises UnsupportedStore, StoreHeld, StoreReadOnly, StoreFull, StoreCorrupt or
        StoreUnavailable, and then holds nothing.
        """
        check_place(self._path)
        self._warnings = version_warnings(sqlite3.sqlite_version_info) + place_warnings(self._path)
        self._lock = FileLock(self._path)
        try:
            create_private(self._path)
            check_log(self._path)
            self._writer = await self._open_writer()
        except BaseException:
            await self.close()
            raise

    async def transaction(
        self, script: Callable[[], Script[T]], tenants: Sequence[str] | None = None
    ) -> T:
        """See `Driver.transaction`. The whole script is one hop to the writer's thread."""
        async with self._turn:
            writer = await self._trusted_writer()
            run = partial(run_transaction, self._state, self._path, script)
            return await on_thread(writer, run)

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """See `Driver.fetch`; a file guards no rows."""
        return await self._readers.fetch(sql, *parameters, tenant=tenant, bytes_max=bytes_max)

    async def upkeep(self) -> None:
        """A checkpoint step every few batches."""
        self._batches += 1
        if self._batches % BATCHES_PER_CHECKPOINT:
            return
        async with self._turn:
            if self._writer is not None:
                step = partial(checkpoint_step, self._state, self._monotonic_ns)
                await on_thread(self._writer, step)

    def facts(self) -> StoreFacts:
        """See `Driver.facts`."""
        state = self._state
        return StoreFacts(
            engine="sqlite",
            version=sqlite3.sqlite_version,
            wal_bytes=_bytes_of(self._path.with_name(self._path.name + "-wal")),
            file_bytes=_bytes_of(self._path),
            checkpoint_seconds_total=state.checkpoint_ns_total / 1e9,
            checkpoints_total=state.checkpoints_total,
            checkpoint_failures_total=state.checkpoint_failures_total,
            busy_retries_total=state.busy_retries_total,
            reopened_total=state.reopened_total,
            commits_total=state.commits_total,
            rows_total=state.rows_total,
            warnings=self._warnings,
        )

    async def close(self) -> None:
        """Readers first, so that the writer is the last to close and checkpoints; then the lock."""
        await self._readers.close()
        async with self._turn:
            lock, self._lock = self._lock, None
            try:
                await self._close_writer()
            finally:
                if lock is not None:
                    lock.release()

    async def _trusted_writer(self) -> aiosqlite.Connection:
        """The writer; after a failure a new one, on which the tail has been checked."""
        if self._lock is None:
            raise StoreUnavailable("the store is closed")
        if self._writer is not None and not self._state.is_distrusted:
            return self._writer
        await self._close_writer()
        writer = self._writer = await self._open_writer()
        self._state.reopened_total += 1
        try:
            check = partial(run_transaction, self._state, self._path, self._verify_tail)
            await on_thread(writer, check)
        except BaseException:
            self._state.is_distrusted = True
            raise
        return writer

    async def _open_writer(self) -> aiosqlite.Connection:
        identity = identity_of(self._path)
        writer = await _open(self._path, "rw", prepare_writer)
        self._state.file_identity = identity
        self._state.is_distrusted = False
        return writer

    async def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            await writer.close()
        except sqlite3.Error as error:
            raise translated(error) from error


def _bytes_of(path: Path) -> int:
    """The file's size; 0 if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def version_warnings(version: tuple[int, ...]) -> tuple[str, ...]:
    """What an operator should know about this version of the SQLite library."""
    is_fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51)
    is_fixed = is_fixed or (3, 44, 6) <= version < (3, 45)
    if is_fixed:
        return ()
    text = ".".join(str(part) for part in version)
    return (
        f"SQLite {text} has the WAL-reset bug (fixed in 3.51.3): harmless here, where one "
        "connection writes and checkpoints, but do not write to the store with other programs.",
    )
