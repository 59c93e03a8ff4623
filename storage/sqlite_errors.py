"""SQLite's error codes in the words of storage.errors. By code, never by message text."""

from __future__ import annotations

import sqlite3

from storage.driver import UnfitRow
from storage.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UniqueViolation,
)

_PRIMARY_CODE_MASK = 0xFF

_BY_PRIMARY_CODE: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_CANTOPEN: StoreUnavailable,
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_CORRUPT: StoreCorrupt,
    sqlite3.SQLITE_NOTADB: StoreCorrupt,
    sqlite3.SQLITE_IOERR: StoreUnavailable,
    sqlite3.SQLITE_INTERRUPT: StoreUnavailable,
    sqlite3.SQLITE_NOMEM: StoreUnavailable,
    sqlite3.SQLITE_PROTOCOL: StoreUnavailable,
    sqlite3.SQLITE_CONSTRAINT: UnfitRow,
    sqlite3.SQLITE_TOOBIG: UnfitRow,
    sqlite3.SQLITE_MISMATCH: UnfitRow,
    sqlite3.SQLITE_RANGE: UnfitRow,
}

_UNIQUE = (
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
)

#: After these the connection's view of the file cannot be trusted: close it, open it again and
#: check the tail. Above all a failed fsync is never tried again on the same handle.
_DISTRUST = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
)

#: Statements are fixed, so that one which SQLite cannot prepare meets other tables than it is for.
_OTHER_TABLES = (
    "Start a sidecar of this version on a store of an older one, once. If it is of this version, "
    "somebody changed its tables: a start says what differs."
)

_WHOSE = (
    "Look whether the file and its folder are there, and whose they are: the sidecar's user has to "
    "read and write both."
)
_DISK = (
    "Look whether the disk is full, and what the system's log says of it: `df`, `dmesg`. A sidecar "
    "that runs goes on by itself once it can."
)
_STEP_BY_PRIMARY_CODE = {
    sqlite3.SQLITE_ERROR: _OTHER_TABLES,
    sqlite3.SQLITE_CANTOPEN: _WHOSE,
    sqlite3.SQLITE_IOERR: _DISK,
}

#: A COMMIT that fails with one of these has certainly not happened.
_NOT_COMMITTED = (StoreFull, StoreBusy, StoreReadOnly)


def _code(error: BaseException) -> int | None:
    """The extended code; None for what Python's binding of values raises by itself."""
    return getattr(error, "sqlite_errorcode", None)


def translated(error: Exception) -> Exception:
    """The error of storage.errors for what sqlite3 raised; anything else as it is."""
    code = _code(error)
    if code is None:
        # Lone surrogates, integers beyond 64 bits, values of another type.
        unfit = isinstance(error, (UnicodeError, OverflowError, sqlite3.Error))
        answer: Exception = UnfitRow(str(error)) if unfit else error
    elif code in _UNIQUE:
        answer = UniqueViolation(str(error))
    else:
        answer = _named(error, code)
    if answer is not error:
        answer.__cause__ = error
    return answer


def _named(error: Exception, code: int) -> StoreError:
    primary = code & _PRIMARY_CODE_MASK
    kind = _BY_PRIMARY_CODE.get(primary, StoreError)
    answer = kind(f"{error} ({getattr(error, 'sqlite_errorname', code)})")
    answer.next_step = _STEP_BY_PRIMARY_CODE.get(primary, kind.next_step)
    return answer


def is_distrustful(error: BaseException | None) -> bool:
    """Whether the connection that raised this must be closed and opened again."""
    while error is not None:
        code = _code(error)
        if code is not None:
            return code & _PRIMARY_CODE_MASK in _DISTRUST
        error = error.__cause__
    return False


def was_interrupted(error: BaseException | None) -> bool:
    """Whether somebody stopped the statement, as a reader does at its time limit."""
    while error is not None:
        if (code := _code(error)) is not None:
            return code & _PRIMARY_CODE_MASK == sqlite3.SQLITE_INTERRUPT
        error = error.__cause__
    return False


def is_certainly_not_committed(error: Exception) -> bool:
    """Whether a COMMIT that raised this (translated) has left nothing behind for certain."""
    return isinstance(error, _NOT_COMMITTED)
