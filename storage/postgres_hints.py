"""Hints between the nodes of one server: that it is worth looking now, and at what.

Knows: that a hint may be lost (who is not connected misses it, nobody repeats it), so that whoever
waits for one looks every now and then all the same; that it is given outside of any transaction,
because NOTIFY takes a lock of the whole server when a transaction that notified commits; and that
it says no more than a word, for every role of the database may listen.
Must not know: the driver library, what is to be looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from storage.postgres_connect import Servers, reader_settings

_log = logging.getLogger("aegis.store")

CHANNEL: Final = "aegis_hint"
#: Pauses before connecting again: the first, and the longest.
PAUSE_S: Final = 0.25
PAUSE_S_MAX: Final = 10.0
#: How often the connection is asked whether it is still one: a network that swallows everything
#: looks like silence.
ALIVE_S: Final = 15.0
ANSWER_S: Final = 5.0

#: Called with the word of a hint, on the event loop.
Heard = Callable[[str], None]


class PostgresHints:
    """A connection of its own, that listens; without one hints are neither heard nor given."""

    def __init__(self, servers: Servers, sql: Mapping[str, str], heard: Heard) -> None:
        self._servers = servers
        self._sql = sql
        self._heard = heard
        self._connection: Any = None
        self._lost = asyncio.Event()
        #: A connection does one thing at a time.
        self._asking = asyncio.Lock()
        #: Hints that were given, heard, and not given because there was no connection.
        self.given = 0
        self.received = 0
        self.missed = 0

    @property
    def is_listening(self) -> bool:
        """Whether hints are heard just now."""
        return self._connection is not None

    async def run(self) -> None:
        """Listens until it is cancelled, over as many connections as that takes."""
        pause_s = PAUSE_S
        try:
            while True:
                try:
                    await self._listen()
                except Exception as error:
                    _log.info("hints of other nodes are not heard", extra={"cause": str(error)})
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, PAUSE_S_MAX)
                    continue
                pause_s = PAUSE_S
                # Whatever was hinted at while nobody listened.
                self._heard("")
                await self._alive()
                self._drop()
        finally:
            self._drop()

    async def give(self, word: str) -> None:
        """Tells all nodes, this one included, that something changed. It raises nothing."""
        connection = self._connection
        if connection is None:
            self.missed += 1
            return
        try:
            async with asyncio.timeout(ANSWER_S), self._asking:
                await connection.fetch(self._sql["give_hint"], CHANNEL, word)
            self.given += 1
        except Exception as error:
            self.missed += 1
            _log.info("a hint could not be given", extra={"cause": str(error)})
            self._lost.set()

    async def _listen(self) -> None:
        connection = await self._servers.connect(reader_settings(ANSWER_S))
        try:
            self._lost.clear()
            connection.add_termination_listener(self._on_termination)
            await connection.add_listener(CHANNEL, self._on_hint)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _alive(self) -> None:
        """Comes back when the connection is none any more."""
        while True:
            try:
                async with asyncio.timeout(ALIVE_S):
                    await self._lost.wait()
                return
            except TimeoutError:
                pass
            try:
                async with asyncio.timeout(ANSWER_S), self._asking:
                    await self._connection.fetch(self._sql["has_schema"])
            except Exception as error:
                _log.info("the connection for hints is lost", extra={"cause": str(error)})
                return

    def _on_hint(self, _connection: Any, _pid: int, _channel: str, word: object) -> None:
        self.received += 1
        self._heard(str(word))

    def _on_termination(self, _connection: Any) -> None:
        self._lost.set()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
