"""The witness: the heads of all chains, kept in a small file outside of the store.

Knows: the file `heads.json` in the data folder, and that it only ever names what is durable in the
store already, so that a crash at any moment leaves a store that has all of it. What was seen is
bound to the chains themselves and not to where they lie: a store that was moved still matches.
A file that cannot be read is no missing file: to go on would write over what may be the only trace
of a rollback, and it is replaced whole or not at all, so that no crash leaves it like that.
It is not signed. Whoever can write to the data folder can make it say anything; it finds a store
that was put back, not a forger.
Must not know: how heads are compared with a store (storage.known_heads), what is done about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import storage
from sidecar.config.store_url import shown_store
from sidecar.data_file import read_small, replace_file
from storage.errors import StoreError
from storage.known_heads import LostHead, Seen, StoreRolledBack
from storage.sql_store import SqlStore
from storage.sqlite_file import path_of_url

_log = logging.getLogger("aegis.ledger")

FILE_NAME = "heads.json"
#: About half a million tenants.
FILE_BYTES_MAX = 64 * 1024 * 1024
FORMAT = 1
#: What is recorded within this time before a crash has no witness yet.
EVERY_S = 5.0

_HASH = re.compile(r"[0-9a-f]{64}")


class WitnessUnreadable(StoreError):
    """The file that tells how far the chains were cannot be read."""

    code = "witness_unreadable"
    next_step = (
        "Put it back from a copy. Without one, verify the store (`store backup` does), compare its "
        "head hashes (`store info`) with those you kept, and move the file away: the next start "
        "makes a new one."
    )


class WitnessForbidden(WitnessUnreadable):
    """The file that tells how far the chains were may not be read."""

    next_step = (
        "Run this as the sidecar's user, and give that user whatever in its data folder is not his "
        "(`chown`): a command was run as another. Do not move the file away: it tells whether "
        "the store was rolled back."
    )


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the file says: the heads by tenant, of which store, when it was written."""

    heads: Mapping[str, Seen]
    store: str
    written_at_us: int


class Witness:
    """The file in a data folder. `url` is the store's; its password is never written."""

    def __init__(self, folder: Path, url: str, now_us: Callable[[], int]) -> None:
        self.path = folder / FILE_NAME
        self.store = shown_store(url)
        self._now_us = now_us

    def read(self) -> Testimony | None:
        """None if there is no file. Raises WitnessUnreadable."""
        try:
            content = read_small(self.path, FILE_BYTES_MAX)
            return None if content is None else _read(content)
        except OSError as error:
            kind = WitnessForbidden if isinstance(error, PermissionError) else WitnessUnreadable
            raise kind(f"{self.path}: {error.strerror or error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WitnessUnreadable(f"{self.path} is not as it was written") from error

    def write(self, heads: Mapping[str, Seen]) -> None:
        """Replaces the file, whole and durably. Raises OSError; then it is as it was."""
        said = {
            "format": FORMAT,
            "store": self.store,
            "written_at_us": self._now_us(),
            "heads": {tenant_id: list(heads[tenant_id]) for tenant_id in sorted(heads)},
        }
        said["sha256"] = _digest(said)
        replace_file(self.path, json.dumps(said).encode() + b"\n")


def _read(content: bytes) -> Testimony:
    said: dict[str, Any] = json.loads(content)
    if said.pop("sha256") != _digest(said) or said["format"] != FORMAT:
        raise ValueError("the checksum or the format is another")
    heads = {tenant_id: Seen(*head) for tenant_id, head in said["heads"].items()}
    for seq, receipt_hash in heads.values():
        if type(seq) is not int or seq < 1 or _HASH.fullmatch(receipt_hash) is None:
            raise ValueError("a head is none")
    return Testimony(heads, str(said["store"]), int(said["written_at_us"]))


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@contextlib.asynccontextmanager
async def witnessed(
    url: str, folder: Path, now_us: Callable[[], int], opening: Callable[[], Awaitable[SqlStore]]
) -> AsyncIterator[SqlStore]:
    """The store that `opening` opens, held against what was seen of it before anything is recorded
    in it; the file is kept up to date until the end, when nothing is recorded any more.

    Raises StoreRolledBack, WitnessUnreadable or what opening raises. A store that nobody has seen
    is taken as it is, and the log says so if it has receipts.
    """
    witness = Witness(folder, url, now_us)
    testimony = witness.read()
    check_there(url, testimony)
    store = await opening()
    try:
        await store.compare(testimony.heads if testimony is not None else {})
        if testimony is None and store.known.all():
            _log.warning(
                "nothing tells whether the store was rolled back: no file keeps its heads yet; "
                "from now on one does",
                extra={"detail": str(witness.path)},
            )
        is_written = testimony is not None and testimony.store == witness.store
        keeper = _Keeper(
            witness, store.known.all, testimony.heads if testimony and is_written else {}
        )
        running = asyncio.create_task(keeper.run(), name="witness")
        try:
            yield store
        finally:
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled():
                _log.error("the heads were not kept", exc_info=running.exception())
            await keeper.close()
    finally:
        await store.close()


def check_there(url: str, testimony: Testimony | None) -> None:
    """Raises StoreRolledBack if heads were seen and a file's store is gone: opening would make a
    new one in its place."""
    if testimony is None or not testimony.heads or storage.engine_of(url) != "sqlite":
        return
    if not path_of_url(url).exists():
        nothing = Seen(0, "")
        heads = sorted(testimony.heads.items())
        raise StoreRolledBack([LostHead(tenant_id, seen, nothing) for tenant_id, seen in heads])


class _Keeper:
    """Writes the file while the store runs, and a last time when it is closed."""

    def __init__(
        self,
        witness: Witness,
        heads: Callable[[], Mapping[str, Seen]],
        written: Mapping[str, Seen],
    ) -> None:
        """`heads` gives what is known to be durable, and costs nothing to ask; `written` is what
        the file says already."""
        self._witness = witness
        self._heads = heads
        self._written = written
        self._writing: asyncio.Future[None] | None = None
        self._is_failing = False

    async def run(self) -> None:
        """Writes now and then, if something changed, until cancelled."""
        while True:
            await self.save()
            await asyncio.sleep(EVERY_S)

    async def save(self) -> None:
        """Writes what the file does not say yet. A failure is logged once, and tried again: an
        older file is still true."""
        heads = self._heads()
        if heads == self._written:
            return
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._witness.write, heads))
        try:
            # Whoever is cancelled here leaves it to its end: two must not write at once.
            await asyncio.shield(self._writing)
        except OSError as error:
            if not self._is_failing:
                _log.error("the heads cannot be kept", extra={"detail": str(error)})
            self._is_failing = True
            return
        self._written, self._is_failing = heads, False

    async def close(self) -> None:
        """`run` has ended, and nothing is recorded any more."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self.save()
