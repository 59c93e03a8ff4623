"""What is put in place of texts that are erased, in rows that stay; and the mark of an erasure.

Knows: that a row is changed only if it stands as it was looked at; that an erasure, which is many
small transactions, leaves a mark while it is under way, so that one which was interrupted is found
and gone on with; that the mark moves along with the store.
Must not know: which texts are to go, what a receipt says of it, or the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from storage.driver import Script, Value, execute_many, fetch
from storage.retention import CareReader, Retention
from storage.sql_store import KEPT

#: The erasure that is under way, or was interrupted: one at a time.
ERASING: Final = f"{KEPT}erasing"


class ErasedAlert(NamedTuple):
    """What an alert of that version says from now on."""

    tenant_id: str
    alert_id: str
    version: int
    reason: str
    notes: str


class ErasedIncident(NamedTuple):
    """What an incident of that version says from now on."""

    tenant_id: str
    incident_id: str
    version: int
    title: str
    notes: str


class ErasedContainment(NamedTuple):
    """Why something is contained, in a row of that version, from now on."""

    tenant_id: str
    containment_id: str
    version: int
    reason: str


class ErasedMemory(NamedTuple):
    """What is remembered, in a row of that version, from now on."""

    tenant_id: str
    detection: str
    subject: str
    version: int
    state: str


class ErasedChange(NamedTuple):
    """What is told of a change of state from now on."""

    tenant_id: str
    seq: int
    before_state: str
    after_state: str
    reason: str


ErasedText = ErasedAlert | ErasedIncident | ErasedContainment | ErasedMemory | ErasedChange

_STATEMENTS: Final[Mapping[type, str]] = {
    ErasedAlert: "erase_alert",
    ErasedIncident: "erase_incident",
    ErasedContainment: "erase_containment",
    ErasedMemory: "erase_memory",
    ErasedChange: "erase_change",
}


class ErasingReader(CareReader):
    """What can be told of an erasure by reading alone."""

    async def unfinished(self) -> str:
        """What the erasure says that is under way, or was interrupted; "" if there is none."""
        rows = await self._reads.fetch(self._sql["state"], ERASING)
        return str(rows[0][0]) if rows else ""


class Erasing(ErasingReader, Retention):
    """Erases what may be erased, a few rows at a time, under a mark."""

    async def begin(self, said: str) -> str:
        """Marks an erasure, unless one is marked already; gives what the mark says then."""
        script = partial(fetch, self._sql["keep_state"], ERASING, said)
        rows = await self._driver.transaction(self._while_open(script))
        return str(rows[0][0])

    async def end(self, said: str) -> None:
        """Takes the mark of that erasure away."""
        script = partial(execute_many, self._sql["drop_state_said"], [(ERASING, said)])
        await self._driver.transaction(self._while_open(script))
        await self._store.after_commit()

    async def erase_texts(self, tenant_id: str, texts: Sequence[ErasedText]) -> int:
        """Puts texts in place of others; rows that have changed meanwhile stay as they are. Gives
        how many were changed."""
        rows: list[tuple[str, Sequence[Value]]] = [
            (self._sql[_STATEMENTS[type(one)]], one) for one in texts
        ]
        changed = 0
        for at in range(0, len(rows), self._limit):
            changed += await self._run(tenant_id, partial(_put, rows[at : at + self._limit]))
        return changed


def _put(rows: Sequence[tuple[str, Sequence[Value]]]) -> Script[int]:
    """How many stood as they were looked at."""
    changed = 0
    for sql, values in rows:
        changed += len((yield from fetch(sql, *values)))
    return changed
