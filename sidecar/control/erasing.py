"""Erases what is kept of one agent's, user's or call's arguments, on record.

Knows: that the receipt which tells of it is durable before anything goes, and that a mark stands
from before that receipt until nothing is left: who finds one goes on, be it the next erasure or the
next start, so that nothing stays on record as erased that is still there. Facts go before the texts
they commit to: no text is ever found changed under its commitment.
Must not know: the command line, where a store is, what a copy looks like.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.control.erasing_search import Found, search
from sidecar.counted import counted
from sidecar.ledger.alone import record
from sidecar.ledger.audited import SIDECAR
from sidecar.ledger.care import erased_facts
from storage.erasing import Erasing, ErasingReader
from storage.errors import StoreCorrupt, StoreError
from storage.retention import Subject

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from storage.sql_store import SqlReader, SqlStore

_log = logging.getLogger("aegis.erasing")

#: How often it is looked again for what changed meanwhile, on a server that others write to.
ROUNDS_MAX: Final = 8


class ErasureOvertaken(StoreError):
    """What is to be erased keeps changing."""

    code = "erasure_overtaken"
    next_step = "Stop the sidecars of this store, then erase again: it goes on where it was."


@dataclass(frozen=True, slots=True)
class Marked:
    """Whose arguments are to go, as the mark of an erasure says it: of calls up to `until_seq`, so
    that an erasure ends which is gone on with late, or while the agent works. On record for it is
    `actor`, who asked for it, also where somebody else goes on."""

    tenant: str
    kind: str
    name: str
    until_seq: int
    actor: str = SIDECAR

    @property
    def words(self) -> str:
        """As people read it."""
        return f"{self.kind} {self.name!a} of tenant {self.tenant!a}"

    def text(self) -> str:
        """As the store keeps it; a mark that names nobody is the sidecar's."""
        said = asdict(self)
        if self.actor == SIDECAR:
            del said["actor"]
        return json.dumps(said, sort_keys=True)


class Erased(NamedTuple):
    """How much was erased: `facts` of so many calls, what so many `approvals` asked with `told`
    messages, what so many `alerts` quoted with `quoted` messages."""

    facts: int = 0
    approvals: int = 0
    told: int = 0
    alerts: int = 0
    quoted: int = 0


class Erasable:
    """What there is to erase, by reading alone: also beside those who work on the store."""

    def __init__(self, reader: SqlReader, actor: str = SIDECAR) -> None:
        """`actor` is who asks for what is erased."""
        self._reader = reader
        self._actor = actor

    async def about(self, tenant: str, kind: str, name: str) -> Marked:
        """All calls of that agent, for that user, or the one call, that there are by now."""
        return Marked(tenant, kind, name, (await self._reader.head(tenant)).seq, self._actor)

    async def found(self, wanted: Marked) -> Found:
        """What is there to erase, by now. Raises a StoreError of reading."""
        subject = Subject(wanted.kind, wanted.name)
        return await search(self._reader, wanted.tenant, subject, wanted.until_seq)

    async def interrupted(self) -> Marked | None:
        """The erasure that was begun and has not ended; None without one. Raises StoreCorrupt."""
        said = await ErasingReader(self._reader).unfinished()
        return _read(said) if said else None


class Erasure(Erasable):
    """Of one open store that nobody else works on, or several nodes of one server."""

    def __init__(self, store: SqlStore, clock: Clock, actor: str = SIDECAR) -> None:
        """`actor` is who asks for what is erased."""
        super().__init__(store, actor)
        self._store = store
        self._clock = clock
        self._erasing = Erasing(store)

    async def overwrites(self) -> bool:
        """Whether what goes from now on is overwritten at once; if not, the engine does so in its
        own time."""
        return await self._erasing.overwrite_deleted()

    async def erase(self, wanted: Marked) -> Erased:
        """Erases all there is. Raises a StoreError, and then the mark is still there."""
        said = wanted.text()
        while (stands := await self._erasing.begin(said)) != said:
            await self.finish(_read(stands))
        return await self.finish(wanted)

    async def finish(self, marked: Marked) -> Erased:
        """Goes on with an erasure that is marked, and takes the mark away. Raises a StoreError."""
        done = Erased()
        for _ in range(ROUNDS_MAX):
            found = await self.found(marked)
            is_whole = found.is_nothing
            if not is_whole:
                now, is_whole = await self._carried_out(marked, found)
                done = Erased(*(was + more for was, more in zip(done, now, strict=True)))
            if is_whole:
                await self._erasing.end(marked.text())
                return done
        raise ErasureOvertaken(f"what is kept of {marked.words} keeps changing")

    async def _carried_out(self, marked: Marked, found: Found) -> tuple[Erased, bool]:
        """How much it was, and whether it was all: a row that somebody changed meanwhile stays as
        it is, to be looked at again."""
        erasing, tenant = self._erasing, marked.tenant
        counts = len(found.seqs), len(found.approvals), found.alerts
        entry = erased_facts(self._clock, tenant, marked.actor, marked.kind, *counts)
        await record(self._store, entry)
        facts = await erasing.erase(tenant, found.seqs)
        await erasing.erase(tenant, found.beside)
        approvals = await erasing.erase_approvals(tenant, found.approvals)
        told = await erasing.erase_deliveries(tenant, found.told)
        quoted = await erasing.erase_deliveries(tenant, found.quoted)
        changed = await erasing.erase_texts(tenant, found.texts)
        return Erased(facts, approvals, told, found.alerts, quoted), changed == len(found.texts)


async def finish_erasing(store: SqlStore, clock: Clock) -> None:
    """At a start, before anybody works on the store: goes on with an erasure that was interrupted.
    Raises a StoreError."""
    erasure = Erasure(store, clock)
    marked = await erasure.interrupted()
    if marked is None:
        return
    await erasure.overwrites()
    erased = await erasure.finish(marked)
    what = (
        f"facts of {counted(erased.facts, 'call')}, "
        f"{counted(erased.approvals, 'approval')}, {counted(erased.alerts, 'alert')}"
    )
    _log.warning(  # without the name: it may be a person's
        "an erasure that was interrupted is finished",
        extra={"detail": f"one {marked.kind} of tenant {marked.tenant!a}: {what}"},
    )


def _read(said: str) -> Marked:
    try:
        return Marked(**json.loads(said))
    except (ValueError, TypeError) as error:
        raise StoreCorrupt("the mark of an erasure cannot be read") from error
