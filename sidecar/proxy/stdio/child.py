"""The server: a process of our own, with pipes to it, that does not outlive us.

Knows: how it is started, told, waited for and ended. It leads a process group of its own, so that
what it starts in turn is reached by signals too; if we are killed, the kernel kills it (Linux), and
everywhere its standard input ends. It gets our environment without what is ours: AEGIS_*.
Must not know: JSON, what a line means.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sidecar.errors import StartRefused
from sidecar.proxy.stdio.lines import PIECE_BYTES_MAX, LineCutter

_log = logging.getLogger("aegis.stdio")

#: The largest line a server may say. Images and files stand in it as base64.
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
#: Bytes that may wait for it to read before a line that cannot wait is left out.
WAITING_BYTES_MAX: Final = 1024 * 1024
#: For the kernel to end what was killed. What changed its user cannot be killed by us.
KILLED_S: Final = 1.0
#: prctl(2): the signal a process gets when the thread that started it ends.
_PR_SET_PDEATHSIG: Final = 1
#: What begins like this is configuration of the sidecar, and may be a secret of it.
OURS: Final = "AEGIS_"


class CommandNotStarted(StartRefused):
    """The server's command cannot be started. `status` is what a shell would say."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ChildGone(Exception):
    """The server takes no more."""


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the server gets to see of our environment."""
    return {name: value for name, value in environ.items() if not name.startswith(OURS)}


def started(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The server's process. To be called before there are other threads.

    Raises CommandNotStarted.
    """
    prepare = _die_with_parent() if sys.platform == "linux" else None
    try:
        return subprocess.Popen(  # noqa: S603 - it is what the command line asks for
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=child_environment(environ),
            start_new_session=True,
            preexec_fn=prepare,
        )
    except FileNotFoundError:
        raise CommandNotStarted(_why_missing(command[0], environ), 127) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandNotStarted(f"{command[0]!r} cannot be started: {reason}", 126) from error


def _why_missing(name: str, environ: Mapping[str, str]) -> str:
    """What a desktop agent's user needs to hear of a command that is not there."""
    if "/" in name and Path(name).is_file():
        return f"{name!r} cannot be started: what its first line (#!) names is not there"
    if " " in name.strip():
        # In the list of a desktop agent's configuration each argument stands by itself.
        return f"there is no command {name!r}: its arguments stand apart from it"
    if "/" in name:
        return f"there is no command {name!r}"
    # Such an agent has no shell's path, and may give its servers another one than its own.
    path = environ.get("PATH", os.defpath)
    return f"there is no command {name!r} in PATH, which is {path!r} here: write it whole"


def _die_with_parent() -> Callable[[], None]:
    """What the child does between fork and exec. Nothing is imported or loaded there."""
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before it was asked for
            os._exit(1)

    return prepare


class Child:
    """The server's process and its pipes; needs a running loop. `exited` is set when it ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None
        self._read_transport: asyncio.BaseTransport | None = None
        self._cutter = LineCutter(LINE_BYTES_MAX)
        self.exited = asyncio.Event()

    async def open(self) -> None:
        """Connects the pipes."""
        loop = self._loop
        self._read_transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), self._process.stdout
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, self._process.stdin
        )
        self._writer = asyncio.StreamWriter(transport, protocol, None, loop)
        threading.Thread(target=self._wait, name="child", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status as a shell tells it, 128 + N for signal N; None while it runs."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def _wait(self) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop may be gone by now
            self._loop.call_soon_threadsafe(self.exited.set)

    # -- its lines -------------------------------------------------------------------------

    async def lines(self) -> AsyncIterator[bytes | None]:
        """Each line it says, None for one that was too long; ends with its standard output."""
        while piece := await self._read():
            for line in self._cutter.feed(piece):
                yield line

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(PIECE_BYTES_MAX)
        except OSError:
            return b""

    @property
    def is_open(self) -> bool:
        """Whether it can be told anything."""
        writer = self._writer
        return writer is not None and not writer.is_closing() and not self.exited.is_set()

    async def tell(self, line: bytes) -> None:
        """Gives it a line, and waits while it is slow to take it. Raises ChildGone."""
        if self._writer is None or not self.is_open:
            raise ChildGone
        try:
            self._writer.write(line + b"\n")
            await self._writer.drain()
        except OSError as error:
            raise ChildGone from error

    def tell_if_room(self, line: bytes) -> bool:
        """Gives it a line without waiting; whether there was room for it. For whoever reads what
        it says: to wait there until it takes something could be to wait for each other."""
        writer = self._writer
        if writer is None or not self.is_open:
            return False
        if writer.transport.get_write_buffer_size() > WAITING_BYTES_MAX:
            return False
        writer.write(line + b"\n")
        return True

    # -- its end ---------------------------------------------------------------------------

    def close_input(self) -> None:
        """Says that nothing more comes."""
        if self._writer is not None:
            self._writer.close()

    def signal(self, number: int) -> None:
        """Sends a signal to it and to what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def ended_within(self, wait_s: float) -> bool:
        """Whether it ends in this time."""
        try:
            async with asyncio.timeout(wait_s):
                await self.exited.wait()
        except TimeoutError:
            return False
        return True

    async def end(self, term_s: float, *, closes_output: bool = True) -> None:
        """Asks it to end; ends it if it does not within `term_s`, and what is left of its group.

        Without `closes_output` what it has said can still be read."""
        if not self.exited.is_set():
            self.signal(signal.SIGTERM)
            await self.ended_within(term_s)
            self.signal(signal.SIGKILL)
            if not await self.ended_within(KILLED_S):
                _log.error("the server cannot be ended", extra={"pid": self.pid})
        self.close_input()
        if closes_output and self._read_transport is not None:
            self._read_transport.close()
