"""The guides that need nothing but the product, from top to bottom, in one folder and with one
sidecar: its files are written where they say, its commands run in order, its answers come.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import warm
from running import ROOT, Process
from test_e2e_readme import assert_answered

sys.path.insert(0, str(ROOT / "tests/unit/guides"))

from guide_reading import DATA_URL, PROGRAM, blocks

GUIDES = ROOT / "deploy/guides"
COVERED_S = 15.0


@dataclass
class Reader:
    """Who follows guides: a folder, the sidecar that was started in it, the last answer."""

    folder: Path
    sidecar: Process
    place: Path
    answer: str = ""
    ran: list[str] = field(default_factory=list)

    def follow(self, name: str) -> None:
        for block in blocks((GUIDES / name).read_text()):
            if block.language == "yaml":
                (self.folder / block.path).write_text(block.text)
            elif block.language == "sh":
                self.answer = "".join(self.run(line) for line in block.lines())
            elif block.language == "text":
                assert_answered(block.text, self.answer)

    def run(self, line: str) -> str:
        self.ran.append(line)
        if line == f"{PROGRAM} serve":
            self.serve()
            return ""
        if line.startswith(f"{PROGRAM} receipts prove"):
            self.await_head()
        if "CALL" in line:
            line = line.replace("CALL", str(json.loads(self.answer)["decision_id"]))
        if line.startswith("mkdir -p gate/policies && cd gate"):
            self.place = self.folder / "gate"
            (self.place / "policies").mkdir(parents=True)
            return ""
        if line.startswith(PROGRAM):
            return self.ask(line)
        line = line.replace(DATA_URL, self.sidecar.url)
        done = subprocess.run(
            ["bash", "-ec", line], cwd=self.place, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, line: str) -> str:
        """One command of the product, forked; what follows `>` is the file it writes to."""
        asked, _, target = line.partition(" >")
        done = warm.run(self.sidecar.command(*asked.split()[1:]), cwd=self.place)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if target:
            (self.place / target).write_text(done.stdout)
        return done.stdout + done.stderr

    def serve(self) -> None:
        """Starts it, or starts it again, as the guide says; it listens where nobody else does."""
        self.sidecar.stop()
        addresses = ("data", self.sidecar.data_port), ("control", self.sidecar.control_port)
        listen = [f"listen.{name}=127.0.0.1:{port}" for name, port in addresses]
        self.sidecar.start(*(part for one in listen for part in ("--set", one)))

    def await_head(self) -> None:
        """Until a signed head stands where the guide keeps them."""
        until = time.monotonic() + COVERED_S
        while not (self.place / "heads").exists():
            assert time.monotonic() < until, self.sidecar.log()[-2000:]
            time.sleep(0.05)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    sidecar = Process(tmp_path / "gate")
    try:
        yield Reader(tmp_path, sidecar, tmp_path)
    finally:
        sidecar.kill()


def test_the_guides_that_need_nothing_else_are_followed_to_their_end(reader: Reader) -> None:
    reader.follow("policy.md")
    assert any("explain --id CALL" in line for line in reader.ran)
    reader.follow("auditor.md")
    assert reader.ran.count(f"{PROGRAM} serve") == 2
    receipts = reader.place / "receipts.jsonl"
    whole = receipts.read_text()
    assert whole.count("say-why") == 1, "the call of the first guide stands in it"
    receipts.write_text(whole.replace("say-why", "say-wny"))
    with pytest.raises(AssertionError, match="receipts verify"):
        reader.run(f"{PROGRAM} receipts verify receipts.jsonl --checkpoint heads --key public.pem")
