"""Starts the real sidecar as a process, the way a user does, and stops it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import warm
from free_ports import free_port
from kept_figures import keep_figures

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Process:
    """One sidecar: its folder, its ports, its process."""

    folder: Path
    data_port: int = field(default_factory=free_port)
    control_port: int = field(default_factory=free_port)
    process: Any = None
    environment: dict[str, str] = field(default_factory=dict)
    store: str = "sqlite:///aegis.db"
    #: Forked with its modules imported, and with the store's figures kept. Otherwise it starts as
    #: for the first time: for tests of memory, and of what a start measures.
    is_warm: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.data_port}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.control_port}"

    @property
    def config(self) -> Path:
        return self.folder / "sidecar.yaml"

    def write(self, upstreams: str, policies: dict[str, str], rest: str = "") -> None:
        """Writes sidecar.yaml and the policy folder."""
        listen = f"{{data: '127.0.0.1:{self.data_port}', control: '127.0.0.1:{self.control_port}'}}"
        self.config.write_text(
            f"listen: {listen}\nstore: {self.store}\npolicies: ./policies\n"
            f"upstreams:\n{upstreams}\n{rest}\n"
        )
        folder = self.folder / "policies"
        folder.mkdir(exist_ok=True)
        for name, text in policies.items():
            (folder / name).write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sidecar.cli.main", *arguments]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one aegis-sidecar command to its end."""
        return warm.run(self.command(*arguments), cwd=ROOT, env={**os.environ, **self.environment})

    def start(self, *arguments: str) -> Process:
        """Starts and waits for /readyz."""
        if self.is_warm and self.store == "sqlite:///aegis.db":
            keep_figures(self.folder)
        with (self.folder / "log").open("ab") as log:
            popen = warm.popen if self.is_warm else subprocess.Popen
            self.process = popen(
                self.command("serve", "--config", str(self.config), *arguments),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            if self.readiness() == 200:
                return self
            time.sleep(0.03)
        raise AssertionError(f"not ready:\n{self.log()[-3000:]}")

    def readiness(self) -> int:
        """The status of /readyz; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"{self.control_url}/readyz", timeout=2) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def metrics(self) -> dict[str, float]:
        """All samples of /metrics: `name{labels}` to value."""
        with urllib.request.urlopen(f"{self.control_url}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def stop(self, patience_s: float = 40.0) -> int:
        """SIGTERM, and the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(patience_s)
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def receipts(self) -> list[dict[str, object]]:
        """The exported receipts, after the offline verifier has agreed."""
        import json

        exported = self.cli("receipts", "export", "--config", str(self.config))
        assert exported.returncode == 0, exported.stderr
        path = self.folder / "receipts.jsonl"
        path.write_text(exported.stdout)
        verified = self.cli("receipts", "verify", str(path))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        return [json.loads(line) for line in exported.stdout.splitlines()]
