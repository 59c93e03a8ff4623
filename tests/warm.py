"""Python processes that begin with the sidecar's modules imported: a start costs a fork.

More than half of what it costs to start a sidecar, and nearly all of a short command, is to import
modules; a run of all tests starts hundreds of both. So one template per test process imports them
once (tests/warm_template.py), and `popen` and `run` fork it: a process of its own with its own
files, folder, environment and signals, which from there on runs what `python -m MODULE` runs.
What makes an interpreter start otherwise (options, PYTHON… in the environment, the authorities
that aiohttp loads when it is imported) is started anew, as with subprocess. Tests of the start
itself, of memory, and what a user is told to type (quickstart, README) do not use this.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = Path(__file__).with_name("warm_template.py")
#: What `serve`, `wrap` and the short commands import. Not sidecar.cli.main itself: it is run.
MODULES = (
    "uvloop", "sidecar.app", "sidecar.api_rooms", "sidecar.policy.conditions",
    "sidecar.cli.policy", "sidecar.cli.wrap", "sidecar.cli.serve",
    "sidecar.cli.receipts", "sidecar.cli.receipts_export", "sidecar.cli.receipts_verify",
    "sidecar.cli.status", "sidecar.cli.store", "sidecar.cli.approvals",
)  # fmt: skip
#: Read by an interpreter, or by a library when it is imported.
READ_AT_START = ("PYTHON", "SSL_CERT_", "OPENSSL_", "LD_", "LANG", "LC_")


def popen(
    command: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    start_new_session: bool = False,
) -> Any:
    """As subprocess.Popen with these arguments, in bytes; forked if it can be."""
    environment = dict(os.environ if env is None else env)
    if not _forkable(command, environment):
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=stdin, stdout=stdout, stderr=stderr,
            start_new_session=start_new_session,
        )  # fmt: skip
    with _lock:
        if not _template or _template[0].poll() is not None:
            _template[:] = [_Template()]
        template = _template[0]
    request = {
        "arguments": list(command[1:]),
        "cwd": str(cwd or os.getcwd()),
        "environment": environment,
        "new_session": start_new_session,
    }
    return Forked(template, command, request, (stdin, stdout, stderr))


def run(
    command: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    stdin: int | IO[Any] | None = None,
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run(…, capture_output=True, text=True)."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = popen(command, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=errors)
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(
            command, code, output.read().decode(), errors.read().decode()
        )


def _forkable(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    if not hasattr(os, "pidfd_open"):  # Linux has it
        return False
    if command[0] != sys.executable or (command[1].startswith("-") and command[1] != "-m"):
        return False

    def read_at_start(of: Mapping[str, str]) -> dict[str, str]:
        return {name: of[name] for name in of if name.startswith(READ_AT_START)}

    return read_at_start(environment) == read_at_start(_environment)


class Forked:
    """A forked process, with what tests use of a subprocess.Popen."""

    def __init__(
        self,
        template: _Template,
        command: Sequence[str],
        request: dict[str, Any],
        wanted: tuple[int | IO[Any] | None, ...],
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        theirs: list[int] = []  # opened here, and theirs alone
        given: list[int] = []
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            file = wanted[number]
            if file is None:
                given.append(number)
            elif file == subprocess.STDOUT:
                given.append(given[1])
            elif file == subprocess.DEVNULL:
                theirs.append(os.open(os.devnull, os.O_RDWR))
                given.append(theirs[-1])
            elif file == subprocess.PIPE:
                reads, writes = os.pipe()
                ours, other = (writes, reads) if number == 0 else (reads, writes)
                setattr(self, name, os.fdopen(ours, "wb" if number == 0 else "rb"))
                theirs.append(other)
                given.append(other)
            else:
                given.append(file if isinstance(file, int) else file.fileno())
        self._told, told_there = os.pipe()
        weakref.finalize(self, os.close, self._told)
        theirs.append(told_there)
        try:
            template.ask(request, [*given, told_there])
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._hearing = threading.Lock()
        self.pid = self._hear("started")

    def _hear(self, what: str) -> int:
        """The next number that is told: the pid, then the exit code."""
        said = b""
        while not said.endswith(b"\n"):
            more = os.read(self._told, 1)
            if not more:
                raise RuntimeError(f"the template of the tests' processes has ended: {self.args}")
            said += more
        kind, number = said.decode().split()
        if kind != what:
            raise OSError(f"it did not start: {self.args}")
        return int(number)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        with self._hearing:
            if self.returncode is None and select.select([self._told], [], [], 0)[0]:
                self.returncode = self._hear("ended")
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, float(timeout or 0))
            select.select([self._told], [], [], left)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Template:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(TEMPLATE), str(theirs.fileno()), *MODULES],
                cwd=ROOT, env=_environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        self._control = ours
        atexit.register(self.end)

    def poll(self) -> int | None:
        return self._process.poll()

    def ask(self, request: dict[str, Any], files: list[int]) -> None:
        socket.send_fds(self._control, [json.dumps(request).encode()], files)

    def end(self) -> None:
        """Its forks are left as they are, as subprocess leaves them."""
        self._control.close()
        self._process.wait()


_lock = threading.Lock()
_template: list[_Template] = []
#: As it was when this process began; tests change it.
_environment = dict(os.environ)
