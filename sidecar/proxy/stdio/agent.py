"""The agent's end: our own standard input and output, read and written by two threads.

Knows: that these pipes are somebody else's. They are never set non-blocking, since whoever shares
them would be surprised; so threads wait on them. Nothing else in this process reads or writes them.
Must not know: JSON, what a line means.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import AsyncIterator
from typing import Final

from sidecar.proxy.stdio.lines import PIECE_BYTES_MAX, LineCutter

#: Bytes that may wait to be read by the agent before whoever says more must wait.
WAITING_BYTES_MAX: Final = 1024 * 1024


class AgentPipes:
    """Lines from `source` and to `sink`, two file descriptors that are ours from now on.

    Needs a running loop. `gone` is set when nobody reads what is written any more.
    """

    def __init__(self, source: int, sink: int, line_bytes_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._source, self._sink = source, sink
        self._cutter = LineCutter(line_bytes_max, keeps_ends=True)
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._wanted = threading.Semaphore(1)
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self.gone = asyncio.Event()

    def start(self) -> None:
        """Begins to read and write."""
        for work, name in ((self._read, "agent-in"), (self._write, "agent-out")):
            threading.Thread(target=work, name=name, daemon=True).start()

    # -- from the agent --------------------------------------------------------------------

    async def lines(self) -> AsyncIterator[bytes | None]:
        """Each line, None for one that was too long; ends when the agent says no more."""
        while piece := await self._pieces.get():
            for line in self._cutter.feed(piece):
                yield line
            self._wanted.release()

    def ends_of_skipped(self) -> tuple[bytes, bytes]:
        """How the next line began and ended that was too long; once for each None of `lines`."""
        return self._cutter.skipped.popleft()

    def ended_within_a_line(self) -> bool:
        """Whether the agent's last line has no end; asked after the last of `lines`."""
        return self._cutter.end()

    def _read(self) -> None:
        piece = b" "
        while piece:
            self._wanted.acquire()
            try:
                piece = os.read(self._source, PIECE_BYTES_MAX)
            except OSError:  # a terminal that hung up, a socket that was reset: nothing more comes
                piece = b""
            if not self._tell(self._pieces.put_nowait, piece):
                return

    # -- to the agent ----------------------------------------------------------------------

    @property
    def is_gone(self) -> bool:
        """Whether nobody reads what is written any more."""
        return self.gone.is_set()

    @property
    def is_full(self) -> bool:
        """Whether `drain` should be waited for."""
        return not self._has_room.is_set()

    def write(self, line: bytes) -> None:
        """Hands a line over; a line end inside of it would be another message."""
        if b"\n" in line or b"\r" in line:
            raise ValueError("a line holds a line end")
        self._waiting_bytes += len(line) + 1
        self._is_empty.clear()
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._has_room.clear()
        self._to_write.put(line + b"\n")

    async def drain(self) -> None:
        """Waits until there is room again, or nobody reads any more."""
        await self._has_room.wait()

    async def flush(self, wait_s: float) -> None:
        """Waits until all is written, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._is_empty.wait()

    def close(self) -> None:
        """Nothing more will be written."""
        self._to_write.put(None)

    def _write(self) -> None:
        while (line := self._to_write.get()) is not None:
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._sink, rest) :]
            except OSError:
                self._tell(self._broke)
                return
            if not self._tell(self._wrote, len(line)):
                return

    def _wrote(self, count: int) -> None:
        self._waiting_bytes -= count
        if self._waiting_bytes <= WAITING_BYTES_MAX // 2:
            self._has_room.set()
        if not self._waiting_bytes:
            self._is_empty.set()

    def _broke(self) -> None:
        self.gone.set()
        self._has_room.set()
        self._is_empty.set()

    def _tell(self, what: object, *values: object) -> bool:
        """Calls back in the loop's thread; whether there still is a loop."""
        try:
            self._loop.call_soon_threadsafe(what, *values)  # type: ignore[arg-type]
        except RuntimeError:
            return False
        return True
