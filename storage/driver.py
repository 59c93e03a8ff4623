"""What a back end provides: five verbs, and the form in which work is handed to it.

A transaction is a `Script`: a generator that yields statements and is sent their results. The
driver decides how to run it (SQLite: the whole script as one function on the writer's thread;
a networked database: with awaits), so that every domain verb is written once and holds no await
and no engine. A script that fails leaves nothing behind; a script may catch `UniqueViolation`
and `UnfitRow` at the statement that raised them, within a savepoint of its own.
Must not know: tables, columns, receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from storage.errors import StoreError

T = TypeVar("T")
Value = str | int | None
Row = tuple[Any, ...]


class One(NamedTuple):
    """A statement run once; its result is the list of rows it gives."""

    sql: str
    parameters: Sequence[Value] = ()


class Many(NamedTuple):
    """A statement run once per parameter row; its result is the number of rows it changed."""

    sql: str
    rows: Sequence[Sequence[Value]]


class Together(NamedTuple):
    """Statements of which none needs another's result: one round trip where there is a network.
    Its result is the list of theirs."""

    steps: Sequence[Many]


class Guarded(NamedTuple):
    """A whole transaction in one step, and the only one of its script: if `guard` is true of the
    rows in `known`, all of `steps` are done, and the first must change a row for each of its
    rows, or the step fails and nothing is done. Its result is whether the guard held; nothing is
    done if not. `guard` is in the engine's own words: of all rows at once, or of each."""

    guard: str
    known: Sequence[Sequence[Value]]
    steps: Sequence[Many]


Step = One | Many | Together | Guarded
Script = Generator[Step, Any, T]


class UnfitRow(StoreError):
    """A value cannot be stored (encoding, range, a check of its column)."""

    code = "unfit_row"
    next_step = "Report it with the call id: such a row should have been refused earlier."


def fetch(sql: str, *parameters: Value) -> Script[list[Row]]:
    """Runs a statement inside a script: `rows = yield from fetch(sql, tenant_id)`."""
    rows: list[Row] = yield One(sql, parameters)
    return rows


def execute_many(sql: str, rows: Sequence[Sequence[Value]]) -> Script[int]:
    """Runs a statement for every row inside a script; gives the number of rows changed."""
    if not rows:
        return 0
    changed: int = yield Many(sql, rows)
    return changed


def execute_together(*steps: tuple[str, Sequence[Sequence[Value]]]) -> Script[list[int]]:
    """Runs statements side by side inside a script; gives the rows each changed, in order."""
    wanted = [Many(sql, rows) for sql, rows in steps if rows]
    changed: list[int] = (yield Together(wanted)) if wanted else []
    following = iter(changed)
    return [next(following) if rows else 0 for _, rows in steps]


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Plain numbers for metrics, and `warnings` an operator should read once at start.

    `failovers_total` counts how often the writer met a server that had been promoted meanwhile;
    `is_writable` says whether it has a connection that took writes (a file: always).
    """

    engine: str
    version: str
    wal_bytes: int
    file_bytes: int
    checkpoint_seconds_total: float
    checkpoints_total: int
    checkpoint_failures_total: int
    busy_retries_total: int
    reopened_total: int
    commits_total: int
    rows_total: int
    warnings: tuple[str, ...]
    failovers_total: int = 0
    is_writable: bool = True


class Driver(Protocol):
    """The five verbs. Every one raises only errors of storage.errors (and `UnfitRow`)."""

    async def transaction(
        self, script: Callable[[], Script[T]], tenants: Sequence[str] | None = None
    ) -> T:
        """Runs a script in one exclusive, durable transaction; returns after COMMIT.

        `tenants` are those whose rows it may touch, where the engine guards rows; None is for
        jobs across tenants.
        An exception that leaves the script rolls back and is raised on. `CommitUnknown` when
        the commit itself failed and its outcome cannot be known.
        """
        ...

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """One read on a connection of its own, cut off at the driver's time limit.

        With `bytes_max`, at least 1, the rows end with the one at which the texts in the last two
        columns reach so many bytes of UTF-8: there is always one, and no more than one too large.
        An engine that gives rows one by one stops there; for one that does not, the bound is the
        statement's last parameter, which the statement keeps to.

        It sees the rows of `tenant`, where the engine guards rows; None is for jobs across tenants
        and for what is about the store itself, which `storage.scopes` names: UnscopedRead for any
        other statement, whatever the engine guards.
        """
        ...

    async def upkeep(self) -> None:
        """Called after each batch's waiters were told; failures are counted, not raised."""
        ...

    def facts(self) -> StoreFacts:
        """Numbers so far."""
        ...

    async def close(self) -> None:
        """Idempotent; later calls raise StoreUnavailable."""
        ...
