"""The store's readers for those who look things up: each read in turn of who asks for it.

Knows: that there are few, that a read may take up to a limit, and that one request makes several:
whoever asks for much must not have everybody else's reads stand behind his.
Must not know: what is read, HTTP.
"""

from __future__ import annotations

from sidecar.control.api.turns import Turns, Whose
from sidecar.model import Person
from storage import SqlReader
from storage.driver import Row, Value
from storage.watch_reads import Reads


class Reading:
    """The readers of one sidecar; `at_once` is how many there are."""

    def __init__(self, reader: SqlReader, at_once: int) -> None:
        self.reader = reader
        self._turns = Turns(at_once)

    def of(self, person: Person) -> SqlReader:
        """The reader for what a person asks for."""
        whose = Whose(person.tenant, person.actor)
        return self.reader.through(lambda reads: _InTurn(reads, self._turns, whose))


class _InTurn:
    """See `storage.Reads`."""

    def __init__(self, reads: Reads, turns: Turns, whose: Whose) -> None:
        self._reads, self._turns, self._whose = reads, turns, whose

    async def fetch(
        self, sql: str, *parameters: Value, tenant: str | None = None, bytes_max: int | None = None
    ) -> list[Row]:
        """See `Reads.fetch`."""
        await self._turns.take(self._whose)
        try:
            return await self._reads.fetch(sql, *parameters, tenant=tenant, bytes_max=bytes_max)
        finally:
            self._turns.give_back()

    async def close(self) -> None:
        """See `Reads.close`."""
        await self._reads.close()
