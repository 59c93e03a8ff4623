"""The PostgreSQL driver: one connection writes, a few others only read.

Knows: when connections are opened, distrusted, replaced and closed, and how a script's steps
become round trips. The only file that names asyncpg. Must not know: what a script is about.
A batch is begin, heads, one statement that writes everything, commit. A server that turned into
a standby, went away or is not the primary puts the connection in doubt: it is replaced, with all
that only read, and the end of the store is checked before the next transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from storage.driver import Guarded, Many, One, Row, Script, Step, StoreFacts, Value
from storage.errors import CommitUnknown, StoreError, StoreUnavailable
from storage.gathered import combined, gathered, guarded
from storage.postgres_connect import CONNECT_S, Check, Servers, reader_settings, writer_settings
from storage.postgres_errors import (
    all_readers_in_use,
    is_certainly_not_committed,
    is_distrustful,
    translated,
    translated_read,
)
from storage.scopes import EVERY_TENANT, NO_TENANT, Scopes

T = TypeVar("T")

STATEMENT_S = 10.0
READ_LIMIT_S = 5.0
#: How much longer than the server, and than connecting takes, a reader waits to be told why not.
LIMIT_MARGIN_S = 1.0
CONNECT_MARGIN_S = 0.25
READERS = 4
#: How often the size of the database is asked for, at most.
SIZE_EVERY_S = 60.0
#: Between the tenants that a connection may see, so that no name can stand for two.
_SEPARATOR = "\x1f"


async def _open(url: str, timeout_s: float, settings: Mapping[str, str]) -> Any:
    """One connection to one server, whatever it is."""
    return await asyncpg.connect(
        url,
        timeout=timeout_s,
        command_timeout=STATEMENT_S,
        server_settings=dict(settings),
        target_session_attrs="any",
    )


def servers_at(url: str, sql: Mapping[str, str]) -> Servers:
    """The servers of a URL, for whoever keeps a connection of his own."""
    return Servers(url, sql, _open)


class PostgresReaders:
    """A few connections that can only read, and only from the primary: a standby may lag behind.
    Opened when first needed."""

    def __init__(
        self,
        url: str,
        sql: Mapping[str, str],
        *,
        limit_s: float = READ_LIMIT_S,
        count: int = READERS,
        servers: Servers | None = None,
    ) -> None:
        #: Else whoever writes says which server is asked first: he knows what it must have.
        self._leads = servers is None
        self._servers = servers or Servers(url, sql, _open)
        self._scopes = Scopes(sql)
        self._count = count
        self._sql = sql
        self._limit_s = limit_s
        self._opening = asyncio.Lock()
        self._pool: Any = None
        self._is_closed = False

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """All rows of one query, of those it may see (`Scopes.of_read`, raises UnscopedRead);
        ReadTimeout beyond the time limit. To `bytes_max` the query itself keeps."""
        scope = self._scopes.of_read(sql, tenant)
        asked = parameters if bytes_max is None else (*parameters, bytes_max)
        limit_s = self._limit_s + LIMIT_MARGIN_S
        pool = await self._opened()
        is_acquired = False
        try:
            async with pool.acquire(timeout=CONNECT_S + CONNECT_MARGIN_S) as connection:
                is_acquired = True
                await connection.fetch(self._sql["set_scope"], scope)
                rows = await connection.fetch(sql, *asked, timeout=limit_s)
        except TimeoutError as error:
            if not is_acquired:
                raise all_readers_in_use(self._count) from error
            await self.expire()
            raise StoreUnavailable(f"no answer within {self._limit_s} s") from error
        except Exception as error:
            if is_distrustful(error):
                await self.expire()
            raise translated_read(error) from error
        return [tuple(row) for row in rows]

    async def expire(self) -> None:
        """Connections that are idle now are not used again."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def close(self) -> None:
        """Idempotent."""
        self._is_closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _opened(self) -> Any:
        async with self._opening:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    min_size=0, max_size=self._count, connect=self._connect, reset=self._forget
                )
            return self._pool

    async def _connect(self, *_: object, **__: object) -> Any:
        """What the pool calls for a new connection; read-only only after it was seen to write."""
        connection = await self._servers.connect(reader_settings(self._limit_s), leads=self._leads)
        try:
            await connection.fetch(self._sql["only_read"])
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _forget(self, connection: Any) -> None:
        """What the pool calls with a connection that comes back."""
        await connection.fetch(self._sql["set_scope"], NO_TENANT)


class PostgresDriver:
    """`storage.driver.Driver` over a PostgreSQL server; many processes may share it."""

    def __init__(
        self,
        url: str,
        sql: Mapping[str, str],
        *,
        verify_tail: Callable[[], Script[None]],
        monotonic_ns: Callable[[], int],
        read_limit_s: float = READ_LIMIT_S,
    ) -> None:
        """`verify_tail` raises StoreCorrupt if the store's end is not in order."""
        self._sql = sql
        self._verify_tail = verify_tail
        self._monotonic_ns = monotonic_ns
        self._servers = Servers(url, sql, _open)
        self._readers = PostgresReaders(url, sql, limit_s=read_limit_s, servers=self._servers)
        self._turn = asyncio.Lock()
        self._writer: Any = None
        self._is_open = False
        self._scope = self._timeline = ""
        self._texts: dict[str, str] = {}
        self._warnings = self._size_bytes = self._size_due_ns = 0
        self._sizing: asyncio.Task[None] | None = None
        self._commits = self._rows = self._busy = self._reopened = self._failovers = 0

    async def open(self) -> None:
        """Connects; raises UnsupportedStore, StoreReadOnly or StoreUnavailable, and holds nothing.

        A wrong password, a missing database and a server too old are UnsupportedStore: waiting
        does not help.
        """
        self._writer = await self._connected()
        self._is_open = True

    async def transaction(
        self, script: Callable[[], Script[T]], tenants: Sequence[str] | None = None
    ) -> T:
        """See `Driver.transaction`."""
        async with self._turn:
            writer = await self._trusted_writer()
            try:
                return await self._run(writer, script(), tenants)
            except asyncio.CancelledError:
                self._distrust()
                raise
            except StoreError as error:
                if is_distrustful(error) or isinstance(error, CommitUnknown):
                    self._distrust()
                    await self._readers.expire()
                raise

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """See `Driver.fetch`."""
        return await self._readers.fetch(sql, *parameters, tenant=tenant, bytes_max=bytes_max)

    async def upkeep(self) -> None:
        """Now and then the size is asked for, beside the batches: readers may all be busy."""
        now_ns = self._monotonic_ns()
        if now_ns < self._size_due_ns or (self._sizing is not None and not self._sizing.done()):
            return
        self._size_due_ns = now_ns + int(SIZE_EVERY_S * 1e9)
        self._sizing = asyncio.get_running_loop().create_task(self._ask_for_size())

    async def _ask_for_size(self) -> None:
        with contextlib.suppress(StoreError):  # it is a figure: the last one stands
            rows = await self._readers.fetch(self._sql["database_size"])
            self._size_bytes = rows[0][0]

    def facts(self) -> StoreFacts:
        """See `Driver.facts`; what a server does by itself is counted as 0."""
        return StoreFacts(
            engine="postgresql",
            version=self._servers.state.version if self._servers.state else "",
            wal_bytes=0,
            file_bytes=self._size_bytes,
            checkpoint_seconds_total=0.0,
            checkpoints_total=0,
            checkpoint_failures_total=0,
            busy_retries_total=self._busy,
            reopened_total=self._reopened,
            commits_total=self._commits,
            rows_total=self._rows,
            warnings=self._servers.warnings(),
            failovers_total=self._failovers,
            is_writable=self._writer is not None and not self._writer.is_closed(),
        )

    async def close(self) -> None:
        """Idempotent."""
        if self._sizing is not None:
            self._sizing.cancel()
            await asyncio.wait({self._sizing})
        await self._readers.close()
        async with self._turn:
            self._is_open = False
            writer, self._writer = self._writer, None
            if writer is not None and not writer.is_closed():
                with contextlib.suppress(Exception):  # it ends either way
                    await writer.close(timeout=CONNECT_S)

    # -- connections -----------------------------------------------------------------------

    async def _connected(self, check: Check | None = None) -> Any:
        """A connection to the primary; counts how often that was another than before."""
        writer = await self._servers.connect(writer_settings(), check)
        writer.add_log_listener(self._on_message)
        self._scope = ""
        timeline = self._servers.state.timeline if self._servers.state else ""
        self._failovers += bool(self._timeline) and timeline != self._timeline
        self._timeline = timeline
        return writer

    def _on_message(self, _: object, message: Any) -> None:
        self._warnings += message.severity_en == "WARNING"

    async def _trusted_writer(self) -> Any:
        if not self._is_open:
            raise StoreUnavailable("the store is closed")
        if self._writer is not None and not self._writer.is_closed():
            return self._writer
        self._writer = await self._connected(self._check_end)
        self._reopened += 1
        await self._readers.expire()  # they may have gone to a server that was left behind
        return self._writer

    async def _check_end(self, writer: Any) -> None:
        self._scope = ""
        await self._run(writer, self._verify_tail(), None)

    def _distrust(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()

    # -- one transaction -------------------------------------------------------------------

    async def _run(self, writer: Any, script: Script[T], tenants: Sequence[str] | None) -> T:
        transaction = writer.transaction()
        try:
            await self._set_scope(writer, tenants)
        except Exception as error:
            raise translated(error) from error
        try:
            step = next(script)
        except StopIteration as end:
            value: T = end.value
            return value
        if isinstance(step, Guarded):
            return await self._run_guarded(writer, script, step)
        try:
            await transaction.start()
        except Exception as error:
            raise translated(error) from error
        rows_before = self._rows
        try:
            answer = await self._drive(writer, script, step)
        except BaseException:
            self._rows = rows_before
            if not writer.is_closed():
                try:
                    await transaction.rollback()
                except Exception:
                    writer.terminate()
            raise
        await self._commit(writer, transaction)
        return answer

    async def _run_guarded(self, writer: Any, script: Script[T], step: Guarded) -> T:
        """One statement that is its own transaction: one round trip, committed when it answers."""
        texts = tuple([await self._gathered(writer, one.sql) for one in step.steps])
        warnings = self._warnings
        columns = [list(column) for column in zip(*step.known, strict=True)]
        columns += [list(column) for one in step.steps for column in zip(*one.rows, strict=True)]
        try:
            holds, _, *changed = await writer.fetchrow(
                guarded(step.guard, texts), *columns, len(step.steps[0].rows)
            )
        except Exception as error:
            raise self._failed_commit(writer, error) from error
        self._check_kept(warnings)
        self._rows += sum(changed)
        self._commits += bool(holds)
        try:
            script.send(holds)
        except StopIteration as end:
            value: T = end.value
            return value
        raise StoreError("a guarded step was not the only one of its script")

    async def _set_scope(self, writer: Any, tenants: Sequence[str] | None) -> None:
        scope = EVERY_TENANT if tenants is None else _SEPARATOR.join(tenants)
        if scope != self._scope:
            await writer.fetch(self._sql["set_scope"], scope)
            self._scope = scope

    async def _drive(self, writer: Any, script: Script[T], step: Step) -> T:
        """Runs the script to its end; an error of a statement is raised inside the script."""
        try:
            while True:
                try:
                    result = await self._perform(writer, step)
                except Exception as error:
                    known = translated(error)
                    self._busy += known.code == "store_busy"
                    step = script.throw(known)
                else:
                    step = script.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _perform(self, writer: Any, step: Step) -> Any:
        if isinstance(step, One):
            return [tuple(row) for row in await writer.fetch(step.sql, *step.parameters)]
        many = [step] if isinstance(step, Many) else list(step.steps)
        text = combined(tuple([await self._gathered(writer, one.sql) for one in many]))
        columns = [list(column) for one in many for column in zip(*one.rows, strict=True)]
        changed = list(await writer.fetchrow(text, *columns))
        self._rows += sum(changed)
        return changed[0] if isinstance(step, Many) else changed

    async def _gathered(self, writer: Any, sql: str) -> str:
        text = self._texts.get(sql)
        if text is None:
            prepared = await writer.prepare(sql)
            types = [parameter.name for parameter in prepared.get_parameters()]
            text = self._texts[sql] = gathered(sql, types)
        return text

    async def _commit(self, writer: Any, transaction: Any) -> None:
        warnings = self._warnings
        try:
            await transaction.commit()
        except Exception as error:
            raise self._failed_commit(writer, error) from error
        self._check_kept(warnings)
        self._commits += 1

    def _check_kept(self, warnings: int) -> None:
        """A server that is told to stop waiting for its standby says that it committed, and warns:
        what it says is then not yet where a failover would look for it."""
        if self._warnings != warnings:
            raise CommitUnknown("the server warned while it committed: its standby may lack it")

    def _failed_commit(self, writer: Any, error: Exception) -> StoreError:
        if is_certainly_not_committed(error) and not writer.is_closed():
            return translated(error)
        return CommitUnknown(f"the commit failed: {error!r}")
