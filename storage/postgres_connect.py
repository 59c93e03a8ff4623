"""How a connection to the primary is had: server by server, each asked what it is.

Knows: how long each server named in the URL may take, what a server must be to be written to,
and the settings of a session that a promise of durability rests on, which are read back: a pooler
between may take them and keep none. Until it is handed out a connection looks for nothing that
others could have put into the database.
Must not know: the driver library (the one call that connects is handed in), statements' texts,
what is done with the connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from storage.errors import StoreError, StoreReadOnly, StoreUnavailable, UnsupportedStore
from storage.known_heads import StoreRolledBack
from storage.postgres_errors import (
    could_not_connect,
    not_durable,
    not_kept,
    not_the_primary,
    not_unicode,
    too_old,
    unprotected,
)
from storage.postgres_url import Server, link_problem, link_warning, parameters_of, servers_of

VERSION_MIN = 130_000
#: Of the database. In any other a call that holds the wrong letter could not be recorded.
ENCODING = "UTF8"
#: How long all servers together may take, and one of several: a machine that lost its power
#: answers nothing, and must not use up the time of its standby.
CONNECT_S = 10.0
ONE_OF_SEVERAL_S = 2.0
#: How long a batch waits for another node's lock before it is told that the store is busy.
LOCK_WAIT_S = 5.0
#: A node that stands still in the middle of a batch holds its tenants' heads no longer than this.
IDLE_IN_BATCH_S = 10.0

#: Raises a StoreError unless a server that takes writes is the one to write to.
Check = Callable[[Any], Awaitable[None]]
#: Opens one connection: its URL, how long it may take, and the session's settings.
Open = Callable[[str, float, Mapping[str, str]], Awaitable[Any]]


#: How long a server keeps a session whose client is gone without a word, as when the network or a
#: machine fails: its own system's two hours otherwise, and so many would take all its connections.
UNTIL_GONE = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
#: What every session sets: a row that was waited for is seen as it is by then, row security leaves
#: rows out instead of refusing the statement, whatever else the server does at a commit as usual,
#: it is asked of none, and the catalogue tells of the schema in the words it is compared with.
_OF_EVERY_SESSION = {
    "default_transaction_isolation": "read committed",
    "quote_all_identifiers": "off",
    "row_security": "on",
    "synchronous_commit": "on",
    **UNTIL_GONE,
}
#: What is not read back: a name for people, to which a pooler or the server's operator may add, and
#: what a server has on TCP alone, and not on every system.
_NOT_READ_BACK = frozenset({"application_name", *UNTIL_GONE})


def writer_settings() -> dict[str, str]:
    """What a session that writes sets for itself, whatever role and database have as usual.

    Warnings must come through: one tells that a commit stopped waiting for its standby.
    """
    return {
        **_OF_EVERY_SESSION,
        "application_name": "aegis-sidecar writer",
        "client_min_messages": "warning",
        "lock_timeout": f"{int(LOCK_WAIT_S * 1000)}",
        "idle_in_transaction_session_timeout": f"{int(IDLE_IN_BATCH_S * 1000)}",
    }


def reader_settings(limit_s: float) -> dict[str, str]:
    """What a session that reads sets for itself; the server gives up when the reader does.

    Everything that is read is a stretch of a key, in the key's order. A planner that has no figures
    of a table yet, or old ones, takes a long stretch for a short one and gathers and sorts all of
    it where a page of it is wanted: half a chain of a million in place of 200 rows. And as there is
    one good plan, it is made once for a connection and not for every read.
    """
    return {
        **_OF_EVERY_SESSION,
        "application_name": "aegis-sidecar reader",
        "statement_timeout": f"{int(limit_s * 1000)}",
        "enable_bitmapscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_seqscan": "off",
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
    }


class ServerState(NamedTuple):
    """What a server said of itself; the fields are the columns of `server_state`, in order."""

    version: str
    number: int
    is_standby: bool
    is_read_only: bool
    durability: str
    keeps_promises: bool
    timeline: str
    is_above_row_security: bool
    encoding: str
    #: Schemas in which whatever is not told whose it is is looked for, and anybody may make things.
    open_schemas: str = ""


class Servers:
    """The servers of one URL; remembers which of them was the primary last."""

    def __init__(self, url: str, sql: Mapping[str, str], open_one: Open) -> None:
        self._url = url
        self._sql = sql
        self._open = open_one
        self._servers = servers_of(url)
        self._last: Server | None = None
        #: Of the server last connected to; None before the first.
        self.state: ServerState | None = None

    async def connect(
        self, settings: Mapping[str, str], check: Check | None = None, *, leads: bool = True
    ) -> Any:
        """A connection to the first server that is the primary and takes writes.

        Raises UnsupportedStore (waiting does not help), StoreReadOnly (only standbys answered)
        or StoreUnavailable; the reason names each server that was asked, and nothing is held.
        What `check` raises is raised too; but of two that take writes one was left behind, such as
        a primary that came back after its standby had taken over: where one says StoreRolledBack
        the next is asked. The next connection tries this one's server first if it `leads`.
        """
        if problem := link_problem(self._url):
            raise unprotected(problem)
        share_s = CONNECT_S if len(self._servers) == 1 else ONE_OF_SEVERAL_S
        failures: list[tuple[Server, StoreError]] = []
        for server in sorted(self._servers, key=lambda one: one is not self._last):
            connection: Any = None
            try:
                connection = await self._connect_to(server, share_s, settings)
                if check is not None:
                    await _checked(connection, check)
            except StoreError as error:
                failures.append((server, error))
                if connection is not None and not isinstance(error, StoreRolledBack):
                    raise
                continue
            if leads:
                self._last = server
            return connection
        raise _together(failures)

    def warnings(self) -> tuple[str, ...]:
        """What an operator should read once of the server last connected to."""
        found = []
        if (state := self.state) is not None and state.is_above_row_security:
            found.append(
                "the sidecar's role is a superuser or has BYPASSRLS: row security does not hold "
                "for it, so give the sidecar a role of its own that has neither"
            )
        if state is not None and not state.keeps_promises:
            found.append(
                "fsync or full_page_writes is off on the server: if its machine goes down, "
                "records that were acknowledged are lost"
            )
        if state is not None and state.open_schemas:
            found.append(
                "whoever may connect to the database may make functions and operators in the "
                f"schema {state.open_schemas}, among which the server looks for those of the "
                f"sidecar's statements: REVOKE CREATE ON SCHEMA {state.open_schemas} FROM PUBLIC"
            )
        if warning := link_warning(self._url):
            found.append(warning)
        return tuple(found)

    async def _connect_to(self, server: Server, share_s: float, settings: Mapping[str, str]) -> Any:
        connection: Any = None
        try:
            async with asyncio.timeout(share_s):
                connection = await self._open(server.url, share_s, settings)
                row = await connection.fetchrow(self._sql["server_state"])
                state = ServerState(*row)
                _check(state)
                await self._check_kept(connection, server, settings)
                await self._learn_types(connection)
        except BaseException as error:
            if connection is not None:
                connection.terminate()
            if isinstance(error, TimeoutError):
                raise could_not_connect(TimeoutError(f"no answer in {share_s:g} s")) from error
            if isinstance(error, Exception):
                raise could_not_connect(error) from error
            raise
        self.state = state
        return connection

    async def _check_kept(
        self, connection: Any, server: Server, settings: Mapping[str, str]
    ) -> None:
        """Raises UnsupportedStore unless the session has the settings that it was opened with: a
        pooler drops what it does not know, and there is no limit of time then, nor one session."""
        wanted = {name: value for name, value in settings.items() if name not in _NOT_READ_BACK}
        if search_path := parameters_of(server.url).get("search_path"):
            wanted["search_path"] = search_path
        rows = await connection.fetch(self._sql["session_settings"], json.dumps(sorted(wanted)))
        found = dict(rows)
        if lost := sorted(name for name, value in wanted.items() if found.get(name) != value):
            raise not_kept(lost[0], found.get(lost[0], ""), wanted[lost[0]])

    async def _learn_types(self, connection: Any) -> None:
        """Lets the driver ask for the types that it does not know by itself, where only what is
        the server's own is found. Its questions are not so exact that nothing in a schema of the
        search path could be taken for a function or an operator of the server."""
        await connection.execute(self._sql["only_the_servers_own"])
        await connection.fetchrow(self._sql["types_in_use"])
        await connection.execute(self._sql["path_as_usual"])


async def _checked(connection: Any, check: Check) -> None:
    """What `check` says of the server; of one that is not the right one no connection is kept."""
    try:
        await check(connection)
    except BaseException:
        connection.terminate()
        raise


def _check(state: ServerState) -> None:
    """Raises UnsupportedStore or StoreReadOnly unless the server may be written to."""
    if state.number < VERSION_MIN:
        raise too_old(state.version)
    if state.is_standby or state.is_read_only:
        raise not_the_primary("a standby" if state.is_standby else "read-only")
    if state.durability != "on":
        raise not_durable(state.durability)
    if state.encoding != ENCODING:
        raise not_unicode(state.encoding)


def _together(failures: list[tuple[Server, StoreError]]) -> StoreError:
    """One error for all servers: only if none can ever be used does waiting not help, and that a
    history is lost is said whatever the others are."""
    if len(failures) == 1:
        server, error = failures[0]
        return _said(error, f"{server.shown}: {error}")
    kinds = [error for _, error in failures]
    for wanted in (StoreRolledBack, StoreReadOnly, StoreUnavailable, UnsupportedStore):
        for error in kinds:
            if isinstance(error, wanted):
                return _said(error, "; ".join(f"{one.shown}: {what}" for one, what in failures))
    return kinds[0]


def _said(error: StoreError, message: str) -> StoreError:
    """An error of the same kind and next step that says more."""
    if isinstance(error, StoreRolledBack):
        error.args = (message,)
        return error
    told = type(error)(message)
    told.next_step = error.next_step
    told.__cause__ = error
    return told
