"""A newcomer with README alone: its files are written where they say, its commands are run in its
order, and each answer it shows is the answer that comes (`…` stands for anything).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from running import ROOT, free_port

_APPROVED = (
    "nothing waits here, and nobody's id is ID: test_e2e_approvals runs it where calls are held"
)
_SINKS = "nobody is told here: test_e2e_sinks runs it where somebody is"
_COPIES = "no server's tools are here: test_faults_postgres_roles runs it on one"
#: Commands of README that are not run here as they stand, and why.
NOT_RUN = {
    "aegis-sidecar approvals list": _APPROVED,
    "aegis-sidecar approvals show ID": _APPROVED,
    'aegis-sidecar approvals approve ID --reason "the customer called"': _APPROVED,
    "aegis-sidecar sinks list": _SINKS,
    "aegis-sidecar sinks test ops": _SINKS,
    "aegis-sidecar sinks dead ops": _SINKS,
    "aegis-sidecar sinks retry --all ops": _SINKS,
    "PGOPTIONS='-c aegis.tenants=*' pg_dump --enable-row-security --no-owner --file=aegis.sql "
    '"$AEGIS_DB"': _COPIES,
    "PGOPTIONS='-c aegis.tenants=*' psql --single-transaction --set=ON_ERROR_STOP=1 "
    '--file=aegis.sql "$RESTORED_DB"': _COPIES,
    'aegis-sidecar store verify --store "$RESTORED_DB"': _COPIES,
    "bash deploy/quickstart.sh": "test_e2e_quickstart runs it in a fresh clone; here the demo that "
    "it starts is running already",
    "aegis-sidecar serve": "it stays until it is told to stop: served() starts and stops it",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of README: its language and what stands in it."""

    language: str
    text: str

    def commands(self) -> list[str]:
        """One command a line, continued lines joined, without what is said of it behind it."""
        # Between single quotes a shell joins nothing: a backslash there would be sent.
        whole = re.sub(r"'[^']*'", lambda said: said[0].replace("\n", " "), self.text)
        whole = whole.replace("\\\n", " ")
        return [line.partition("   # ")[0].strip() for line in whole.splitlines() if line.strip()]


def blocks(readme: str) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    return [Block(language, text) for language, text in found if language]


@dataclass
class Newcomer:
    """A folder like the clone, a demo that runs in it, and what the last commands answered."""

    folder: Path
    data_url: str = ""
    tool_port: str = ""
    answer: str = ""
    place: Path = Path()
    ran: list[str] = field(default_factory=list)

    def follow(self, readme: str) -> None:
        """Does everything README says, from top to bottom."""
        for block in blocks(readme):
            if block.language == "yaml":
                self.write(block.text)
            elif block.language == "sh":
                self.answer = "".join(self.run(command) for command in block.commands())
            elif block.language == "text":
                assert_answered(block.text, self.answer)

    def write(self, text: str) -> None:
        named = re.match(r"# (\S+\.yaml)\n", text)
        assert named, f"a file of README without its name: {text}"
        path = self.folder / named[1]
        path.write_text(text.replace("127.0.0.1:3001", f"127.0.0.1:{self.tool_port}"))

    def run(self, command: str) -> str:
        self.ran.append(command)
        if command == "aegis-sidecar serve":
            return self.served()
        if command in NOT_RUN:
            return ""
        command = command.replace("http://127.0.0.1:8080", self.data_url)
        if "--id CALL" in command:
            command = command.replace("CALL", re.findall(r'"call_id":"(\w+)"', self.answer)[0])
        # Where the shell ends, with its variables, is where the next command begins.
        script = f'set -e\n{command}\npwd >"$STAGE/.place"\nexport -p >"$STAGE/.variables"\n'
        before = f'export STAGE={self.folder}\n. "$STAGE/.variables" 2>/dev/null || true\n'
        done = subprocess.run(
            ["bash", "-c", before + script],
            cwd=self.folder / self.place,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "HOME": str(self.folder)},
        )
        said = done.stdout + done.stderr
        # A replay that finds differences says so by its exit code too.
        assert done.returncode == (1 if " replay " in command else 0), f"{command}\n{said}"
        self.place = Path((self.folder / ".place").read_text().strip())
        return said

    def served(self) -> str:
        """The sidecar of README's own files carries and records a call."""
        port, control = free_port(), free_port()
        listen = [f"listen.data=127.0.0.1:{port}", f"listen.control=127.0.0.1:{control}"]
        with (self.folder / "served.log").open("wb") as log:
            process = subprocess.Popen(
                [self.folder / ".venv/bin/aegis-sidecar", "serve"]
                + [part for one in listen for part in ("--set", one)],
                cwd=self.place,
                env={**os.environ, "GITHUB_TOKEN": "x"},
                stderr=subprocess.STDOUT,
                stdout=log,
            )
        try:
            until = time.monotonic() + 30
            while not answers(f"http://127.0.0.1:{control}/readyz"):
                assert time.monotonic() < until, (self.folder / "served.log").read_text()
                time.sleep(0.05)
            assert "Every call you see here" in read_note(f"http://127.0.0.1:{port}/files/mcp")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        return ""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def read_note(url: str) -> str:
    params = {"name": "read_note", "arguments": {"title": "welcome"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    request = urllib.request.Request(
        url,
        json.dumps(message).encode(),
        {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(reply.read().decode())


def assert_answered(shown: str, answer: str) -> None:
    """Each line that README shows stands in the answer, in its order."""
    rest = answer.splitlines()
    for line in shown.splitlines():
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")))
        at = next((n for n, one in enumerate(rest) if pattern.fullmatch(one)), None)
        assert at is not None, f"README shows\n{line}\nbut what came is\n{answer}"
        del rest[: at + 1]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    command = tmp_path / ".venv/bin/aegis-sidecar"
    command.parent.mkdir(parents=True)
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m sidecar.cli.main "$@"\n'
    )
    command.chmod(0o755)
    demo = subprocess.Popen(
        [command, "demo"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert demo.stdout is not None
    try:
        told = ""
        while "Ctrl-C" not in told:
            line = demo.stdout.readline()
            assert line, told
            told += line
        written = (tmp_path / "aegis-demo/sidecar.yaml").read_text()
        data, tools = re.findall(r"data: (\S+)", written)[0], re.findall(r":(\d+)/shop", written)[0]
        yield Newcomer(tmp_path, f"http://{data}", tools)
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=45)


@pytest.mark.timeout(180)
def test_a_newcomer_gets_what_the_readme_shows(newcomer: Newcomer) -> None:
    readme = (ROOT / "README.md").read_text()
    newcomer.follow(readme)
    assert set(newcomer.ran) >= set(NOT_RUN), "what is listed as not run is no command of README"
    assert any("policy explain --id" in command for command in newcomer.ran)


def test_an_answer_that_does_not_come_is_seen() -> None:
    came = "deny  a/b  yes\nrun   x: 1 call\n"
    assert_answered("deny  … yes\nrun   x: …\n", came)
    for wrong in ("allow …\n", "run   x: …\ndeny  …\n", "deny  a/b\n"):
        with pytest.raises(AssertionError, match="README shows"):
            assert_answered(wrong, came)
