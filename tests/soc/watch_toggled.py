"""A sidecar whose watching stands still in every other window of time, and that counts the calls it
decides in each, so that what noticing costs is seen within one process. Never part of the product.

    python watch_toggled.py COUNTS ARGUMENTS…     one line a window in COUNTS: its number, its calls
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import sidecar.soc_rooms
from sidecar.cli.main import main
from sidecar.soc.watch_share import Share

#: Long enough that a window's first slices do not matter, short beside the swings of a machine.
WINDOW_S = 0.25
AGAIN_S = 0.01


def window() -> int:
    """The number of the window that is now; it watches in those that are even."""
    return int(time.monotonic() / WINDOW_S)


class Toggled(Share):
    """Goes on only in its windows, and writes down the calls of every window."""

    _counting: asyncio.Task[None] | None = None

    async def rest(self, behind_s: float, rows_read: int = 0) -> None:
        if self._counting is None:
            self._counting = asyncio.get_running_loop().create_task(self._count(sys.argv[0]))
        await super().rest(behind_s, rows_read)
        while window() % 2:
            await asyncio.sleep(AGAIN_S)
        self.begin()

    async def _count(self, path: str) -> None:
        with open(path, "a", encoding="ascii", buffering=1) as counts:
            number, before = window(), self._calls()
            while True:
                while window() == number:
                    await asyncio.sleep(
                        max(AGAIN_S / 10, (number + 1) * WINDOW_S - time.monotonic())
                    )
                now = self._calls()
                counts.write(f"{number} {now - before}\n")
                number, before = window(), now


if __name__ == "__main__":
    sidecar.soc_rooms.Share = Toggled  # type: ignore[misc]
    path = sys.argv[1]
    arguments = sys.argv[2:]
    sys.argv[0] = os.path.abspath(path)
    sys.exit(main(arguments))
