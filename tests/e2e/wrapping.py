"""Starts `aegis-sidecar wrap` around a server, the way a desktop agent does, and speaks lines."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import warm
from kept_figures import keep_figures

from sidecar.wrap.files import make_folder

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SCRIPT = [sys.executable, str(HERE / "stdio_script.py")]
FIXTURE = [sys.executable, str(HERE / "stdio_fixture.py")]
PATIENCE_S = 20.0

#: Everything goes ahead, and what comes of a call is masked.
MASKING = """\
policy: start
rules:
  - {id: everything, effect: allow, tools: [files/unknown, "files/mcp:*"]}
  - id: no-cards
    tools: files/unknown
    obligations: {redact: {response: card_number}}
"""


def wrap_command(name: str, server: list[str], *options: str) -> list[str]:
    program = [sys.executable, "-m", "sidecar.cli.main", "wrap"]
    return [*program, "--name", name, *options, "--", *server]


class Wrap:
    """One wrapped server; `folder` is the per-user data folder of this test. The wrap finds its
    own folder made, with the store's figures in it and nothing else, unless it is not to."""

    def __init__(
        self,
        folder: Path,
        name: str = "files",
        server: list[str] = SCRIPT,
        *options: str,
        environment: dict[str, str] | None = None,
        finds_folder: bool = True,
    ) -> None:
        self.home = folder / "share" / "aegis-sidecar" / name
        self.seen_path = folder / f"seen-{name}"
        self.errors_path = folder / f"stderr-{name}"
        self._unread = b""
        if finds_folder:
            make_folder(self.home)
            keep_figures(self.home)
        with self.errors_path.open("ab") as errors:
            self.process = warm.popen(
                wrap_command(name, server, *options),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={
                    **os.environ,
                    "XDG_DATA_HOME": str(folder / "share"),
                    "SEEN": str(self.seen_path),
                    "CANCELLED": str(folder / "cancelled"),
                    **(environment or {}),
                },
            )

    def say(self, message: dict[str, Any] | list[Any] | bytes) -> None:
        line = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def call(self, reply_id: Any, name: str, **arguments: Any) -> None:
        self.say(call(reply_id, name, **arguments))

    def hear(self, wait_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next line, which must be a JSON object."""
        assert self.process.stdout is not None
        until = time.monotonic() + wait_s
        while b"\n" not in self._unread:
            left = until - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, left))
            assert ready, f"nothing was heard; standard error: {self.errors()[-2000:]}"
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, f"it ended; standard error: {self.errors()[-2000:]}"
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        heard = json.loads(line)
        assert isinstance(heard, dict)
        return heard

    def asked(self, reply_id: Any, name: str, **arguments: Any) -> dict[str, Any]:
        """A call and its answer, which must be the next line."""
        self.call(reply_id, name, **arguments)
        heard = self.hear()
        assert heard.get("id") == reply_id, heard
        return heard

    def end(self, wait_s: float = PATIENCE_S) -> int:
        """Says no more, and waits; what was still said must be nothing."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(wait_s)
        assert self.rest() == b""
        return status

    def rest(self) -> bytes:
        """What is left on its standard output until its end."""
        assert self.process.stdout is not None
        rest = self._unread + self.process.stdout.read()
        self._unread = b""
        self.process.stdout.close()
        return rest

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def errors(self) -> str:
        return self.errors_path.read_text(errors="replace")

    def seen(self) -> list[dict[str, Any]]:
        """The lines that reached the server."""
        return [json.loads(line) for line in self.seen_path.read_bytes().splitlines()]

    def receipts(self, store: Path | None = None) -> list[dict[str, Any]]:
        """The exported receipts, after the offline verifier has agreed."""
        url = f"sqlite:///{store or self.home / 'aegis.db'}"
        exported = cli("receipts", "export", "--store", url)
        assert exported.returncode == 0, exported.stderr
        path = self.home / "exported.jsonl"
        path.write_text(exported.stdout)
        verified = cli("receipts", "verify", str(path))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        return [json.loads(line) for line in exported.stdout.splitlines()]


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One aegis-sidecar command to its end."""
    command = [sys.executable, "-m", "sidecar.cli.main", *arguments]
    return warm.run(command, cwd=ROOT)


def call(reply_id: Any, name: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": reply_id, "method": "tools/call", "params": params}


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["result"]["content"][0]["text"])


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def gone_within(pid: int, wait_s: float) -> bool:
    """Whether a process that is not ours to wait for ends in this time."""
    until = time.monotonic() + wait_s
    while is_alive(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
