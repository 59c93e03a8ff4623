"""PostgreSQL's errors in the words of storage.errors.

Knows: SQLSTATE codes (PostgreSQL documentation, appendix A), which of them put the connection in
doubt, which say for certain that a commit did not happen, and what an operator of a server can do.
Must not know: connections, statements; and not the driver library: a code is all it needs.
"""

from __future__ import annotations

import os
import re
import ssl

from storage.driver import UnfitRow
from storage.errors import (
    ReadTimeout,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UniqueViolation,
    UnsupportedStore,
)
from storage.known_heads import StoreRolledBack

_BY_CODE: dict[str, type[StoreError]] = {
    "23505": UniqueViolation,
    "25006": StoreReadOnly,  # the server became a standby under us
    "40001": StoreBusy,
    "40P01": StoreBusy,
    "42501": StoreReadOnly,  # privileges, and row security
    "53100": StoreFull,
    "55P03": StoreBusy,
    "57014": StoreBusy,  # cut off by a time limit
    "3D000": UnsupportedStore,
    "28P01": UnsupportedStore,
    "28000": UnsupportedStore,
    "42704": UnsupportedStore,  # a setting in the URL that the server does not know
    "3F000": UnsupportedStore,  # a search_path that leads to no schema
    "XX001": StoreCorrupt,
    "XX002": StoreCorrupt,
}
#: What a server says of a statement that a time limit, or somebody, has ended.
_CUT_OFF = "57014"
#: By class: integrity of a row, and data that does not fit a type.
_BY_CLASS: dict[str, type[StoreError]] = {"23": UnfitRow, "22": UnfitRow}

_FIND = (
    "Look whether the server runs and answers at the host and port of `store`; a sidecar that runs "
    "goes on by itself as soon as it does."
)
_PRIMARY = (
    "Name the primary in `store`, or all servers one after the other (HOST:PORT,HOST:PORT): the "
    "one that takes writes is found, and found again after a failover."
)
_MADE_READ_ONLY = (
    "If it is the primary, somebody set default_transaction_read_only for the role, the database "
    "or the server; some providers do when a disk is nearly full."
)
_TABLES = (
    "Start a sidecar of this version on a store of an older one, once. If it is of this version, "
    "look who changed its tables, and undo it: the sidecar goes on by itself. What differs is said "
    "at a start."
)
_TLS = (
    "Compare sslmode, sslrootcert, sslcert and sslkey in `store` with the server's certificate: "
    "its name must be the host's, and sslrootcert the file of the authority that signed it."
)
_NO_POOLER = (
    "Name the server itself in `store`, not a pooler (PgBouncer and the like) before it: a sidecar "
    "takes up to seven connections, keeps them, and needs sessions of its own."
)
#: What an operator can do, where it differs from what helps with a file.
_STEP_BY_CODE: dict[str, str] = {
    "08P01": _NO_POOLER,  # "unsupported startup parameter", and whatever else a pooler says
    "25006": _PRIMARY,
    "28P01": (
        "Correct the user or the password in the URL that `store` refers to, and start again. A "
        "password file that the URL names in place of it (`?passfile=`) is read at each "
        "connection: a sidecar that runs goes on by itself once the new password stands there."
    ),
    "28000": (
        "Create the role, or let the server's pg_hba.conf admit it from here, in the way it "
        "connects."
    ),
    "3D000": "Create the database, owned by the sidecar's role, or correct its name in `store`.",
    "42501": (
        "Let the sidecar's role own its database, or grant it CREATE and USAGE on the schema; if "
        "the tables are there, it must own them."
    ),
    "3F000": (
        "Create the schema that the role's search_path leads to, owned by the sidecar's role, or "
        "correct the search_path."
    ),
    "42703": _TABLES,
    "42704": "Take the parameter out of the URL that `store` refers to.",
    "42P01": _TABLES,
    "53100": "Free disk space on the server; a sidecar that runs goes on by itself.",
    "53300": (
        "Raise max_connections, or the role's CONNECTION LIMIT, or end other clients: a sidecar "
        "takes up to seven connections."
    ),
    "55P03": (
        "Look in pg_locks and pg_stat_activity for who holds a lock on chain_head or another table "
        "of the sidecar (VACUUM FULL does), or an advisory lock, and end that session."
    ),
    "57014": (
        "Look on the server for what makes it slow, or who cancelled the statement; a "
        "statement_timeout of the role or the database does it too."
    ),
    "57P03": "Wait until the server has started; a sidecar that runs goes on by itself.",
}
_STEP_BY_KIND: dict[type[StoreError], str] = {
    StoreBusy: "Look in pg_stat_activity for sessions that wait for each other's locks.",
    StoreCorrupt: "Keep a copy of the server's data, then restore a backup of the server.",
    StoreReadOnly: _PRIMARY,
    StoreUnavailable: _FIND,
    UnsupportedStore: "Correct the URL that `store` refers to.",
}


def code_of(error: BaseException) -> str:
    """The SQLSTATE the server gave; "" for an error that is not the server's."""
    return str(getattr(error, "sqlstate", None) or "")


def translated(error: BaseException) -> StoreError:
    """The error in our words; one of ours is given back as it is."""
    if isinstance(error, StoreError):
        return error
    code = code_of(error)
    kind = _BY_CODE.get(code) or _BY_CLASS.get(code[:2])
    if kind is None and not code and isinstance(error, (ValueError, TypeError, OverflowError)):
        kind = UnfitRow  # the driver could not even encode the value
    text = f"{code} {_text(error)}".strip() or type(error).__name__
    return _with_step((kind or StoreUnavailable)(text), code)


def _text(error: BaseException) -> str:
    """Of a connection that was not made: the system's words, without asyncio's repetition of the
    address, which is said anyway."""
    number = error.errno if isinstance(error, OSError) else None
    if number and "call failed" in str(error):
        return os.strerror(number)
    if isinstance(error, TimeoutError) and not str(error):
        return "the server did not answer in time"
    if "connection_lost() call" in str(error):  # asyncpg's own words for it
        return "the connection was closed before the server had answered"
    return re.sub(r"\[Errno -?\d+\] ", "", str(error))


def translated_read(error: BaseException) -> StoreError:
    """The same for a read, which the server cuts off at the reader's time limit."""
    known = translated(error)
    if code_of(error) != _CUT_OFF:
        return known
    return _with_step(ReadTimeout(str(known)), _CUT_OFF)


def could_not_connect(error: BaseException) -> StoreError:
    """The same for an error met while connecting, where no value was to be encoded: what is not
    the network's or the server's doing is a URL, a certificate or a key that cannot be used."""
    if isinstance(error, ssl.SSLError):
        # The reason alone: asyncio's own text repeats the line of OpenSSL's source.
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
        return _with_step(UnsupportedStore(f"no secure connection: {reason}"), "", _TLS)
    if isinstance(error, StoreError) or code_of(error):
        return translated(error)
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        return _with_step(UnsupportedStore("the server offers no TLS"), "", _TLS)
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        named = error.filename or "a file named in the URL"
        return _with_step(UnsupportedStore(f"{named}: {error.strerror}"), "", _TLS)
    if isinstance(error, OSError):
        return translated(error)
    if isinstance(error, (ValueError, TypeError, OverflowError)):
        return _with_step(UnsupportedStore(str(error)), "")
    return translated(error)


def unprotected(problem: str) -> StoreError:
    """The link described by the URL may be in the clear, or is described wrongly."""
    step = "" if "is written %" in problem else "Add sslmode to the URL of the store."
    return _with_step(UnsupportedStore(problem), "", step)


def too_old(version: str) -> StoreError:
    """The server's version is not one this program was tested with."""
    error = UnsupportedStore(f"PostgreSQL {version} is too old: 13 or later is needed")
    return _with_step(error, "", "Upgrade the server, or name another one in `store`.")


def not_the_primary(what: str) -> StoreError:
    """The server answers, and takes no writes: it is `what`."""
    step = f"{_PRIMARY} {_MADE_READ_ONLY}" if what == "read-only" else ""
    return _with_step(StoreReadOnly(f"the server is {what}"), "", step)


def not_a_store() -> StoreCorrupt:
    """The database was asked, and has none of our tables."""
    error = StoreCorrupt("this database holds no store of this program")
    error.next_step = (
        "Correct the database in the URL, or the search_path of the role, which leads to the "
        "schema; in a new database the first start of the sidecar makes the store."
    )
    return error


def all_readers_in_use(count: int) -> StoreError:
    """None of our own connections for reading became free in time."""
    error = StoreBusy(f"all {count} readers are in use")
    return _with_step(error, "", "Ask for less at once, or look on the server for what is slow.")


def not_unicode(encoding: str) -> StoreError:
    """The database cannot hold every character that a call may hold."""
    error = UnsupportedStore(f"the database's encoding is {encoding}, not UTF8")
    return _with_step(
        error,
        "",
        "Create a database with ENCODING 'UTF8' TEMPLATE template0 and name that in `store`; a "
        "store that is in the other one already is carried over with pg_dump and psql, as "
        "README.md says of backups.",
    )


def not_durable(durability: str) -> StoreError:
    """The server does not keep a session's own setting."""
    error = UnsupportedStore(f"synchronous_commit is {durability!r}, not on")
    return _with_step(error, "", "Let nothing on the server, or a pooler before it, change it.")


def not_kept(name: str, found: str, wanted: str) -> StoreError:
    """The session has not the settings that it was opened with."""
    error = UnsupportedStore(
        f"a session's settings are not kept ({name} is {found!r}, not {wanted!r}): a pooler stands "
        "before the server"
    )
    return _with_step(error, "", _NO_POOLER)


def is_distrustful(error: BaseException) -> bool:
    """Whether the connection must be replaced: it is lost, or talks to a server it should not."""
    if isinstance(error, StoreError):
        distrusted = (StoreUnavailable, StoreReadOnly, StoreCorrupt, StoreRolledBack)
        return isinstance(error, distrusted)
    code = code_of(error)
    if not code:
        return not isinstance(error, (ValueError, TypeError, OverflowError))
    return (code[:2] in ("08", "57", "XX", "58") and code != "57014") or code in ("25006", "42501")


def is_certainly_not_committed(error: BaseException) -> bool:
    """Whether the server itself said that COMMIT failed, on a connection that still stands.

    So are a statement's own errors, where a statement is a whole transaction: it was taken back.
    """
    code = code_of(error)
    return code[:2] in ("22", "23", "25", "40", "42", "53") or code in ("55P03", "57014")


def _with_step(error: StoreError, code: str, step: str = "") -> StoreError:
    found = step or _STEP_BY_CODE.get(code) or _STEP_BY_KIND.get(type(error))
    if found:
        error.next_step = found
    return error
