"""What is known of a store beside what it says itself: the room that is left where it writes, and
its last backup.

Knows: that a disk may hang. So it is asked beside the event loop, one question at a time however
often somebody asks, and who asks is told nothing rather than kept waiting.
Must not know: how a backup is made, how numbers are published.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final, NamedTuple

from sidecar import backup_file

WAIT_S: Final = 0.5


class Surroundings(NamedTuple):
    """None is what is not known. `backup_at_us` is 0 where no backup is known."""

    free_bytes: int | None = None
    backup_at_us: int | None = None


class StoreSurroundings:
    """Looks for who scrapes. `store` is the store's file, None if a server keeps the store: of its
    disk and its backups nothing is known here, but the process writes into its data folder."""

    def __init__(self, data_dir: Path, store: Path | None) -> None:
        self._folder = data_dir if store is None else store.parent
        self._store = store
        self._looking: asyncio.Task[Surroundings] | None = None
        self._backup = backup_file.Remembered()

    async def look(self) -> Surroundings:
        """What there is now; nothing if it cannot be told in time."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(asyncio.to_thread(self._look))
        done, _ = await asyncio.wait({self._looking}, timeout=WAIT_S)
        return self._looking.result() if done else Surroundings()

    def _look(self) -> Surroundings:
        return Surroundings(
            _free_bytes(self._folder),
            None if self._store is None else self._backup.at_us(self._store),
        )


def _free_bytes(folder: Path) -> int | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
