"""Finished lines to a stream, written by a thread of their own.

Knows: that a stream may block for ever, and that no more than so many lines wait for it; whoever
gives a line is told when it was written. A line is made so that nothing in it can begin another.
What has a file descriptor is written past the stream's own buffer: a thread that is stuck within
that keeps its lock, and the interpreter waits for it when the process is to end.
Must not know: what is written, who reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import select
import threading
from collections.abc import Callable
from typing import Any, Final, TextIO

WAITING_MAX: Final = 256


class LinesFull(Exception):
    """As many lines wait as may; the stream does not take them."""


def json_line(content: Any) -> str:
    """One line of ASCII JSON: every control character and whatever is not ASCII is escaped."""
    return json.dumps(content, ensure_ascii=True, sort_keys=True).replace("\x7f", "\\u007f")


def line_writer(stream: TextIO) -> Callable[[str], None]:
    """What writes one line of ASCII and its end, and blocks while nobody takes it; it raises
    OSError, or ValueError where the stream is closed."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # in memory, as in a program that keeps what is written
        return lambda line: _write_to(stream, line)
    return lambda line: _write_whole(number, f"{line}\n".encode("ascii"))


def _write_to(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def _write_whole(number: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:  # somebody who has it too has made it so
            select.select((), (number,), ())


class Lines:
    """For one stream. The thread begins with the first line."""

    def __init__(self, stream: TextIO) -> None:
        self._put = line_writer(stream)
        self._waiting: queue.Queue[tuple[str, asyncio.Future[None]] | None] = queue.Queue(
            WAITING_MAX
        )
        self._thread: threading.Thread | None = None
        self._is_closed = False

    async def write(self, line: str) -> None:
        """Comes back when the line was written; raises LinesFull, OSError, ValueError."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
            self._thread.start()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((line, written))
        except queue.Full:
            raise LinesFull from None
        await written

    def close(self) -> None:
        """The thread ends after what waits; while the stream is stuck, it is left behind."""
        self._is_closed = True
        if self._thread is not None:
            with contextlib.suppress(queue.Full):  # then it ends when nothing waits
                self._waiting.put_nowait(None)
            self._thread = None

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            self._write(*item)
            if self._is_closed and self._waiting.empty():
                return

    def _write(self, line: str, written: asyncio.Future[None]) -> None:
        if not written.cancelled():  # else whoever gave it has given up
            error: Exception | None = None
            try:
                self._put(line)
            except (OSError, ValueError) as failed:
                error = failed
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                written.get_loop().call_soon_threadsafe(_tell, written, error)


def _tell(written: asyncio.Future[None], error: Exception | None) -> None:
    if written.done():
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
