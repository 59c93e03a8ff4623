"""What a sidecar that serves keeps in memory: no library for what its configuration does not use,
and nothing that start-up was done with. Each in a process of its own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import free_port

#: Runs `serve` as the command does, tells what is imported once it listens, and stops it.
SERVE = """
import io, json, os, signal, sys
from sidecar.cli.main import main

class Said(io.TextIOBase):
    def write(self, text):
        if "listens" in text:
            sys.stderr.write("MODULES " + json.dumps(sorted(sys.modules)) + "\\n")
            os.kill(os.getpid(), signal.SIGTERM)
    def flush(self): pass

sys.stdout = Said()
sys.exit(main(["serve", "--config", sys.argv[1]]))
"""
NEVER = (
    "asyncpg", "opentelemetry", "jsonschema_rs", "cryptography", "jwt", "jinja2",
    "sidecar.cli.policy", "sidecar.cli.policy_test", "sidecar.demo", "sidecar.wrap",
    "sidecar.policy.self_test", "storage.postgres", "storage.move",
)  # fmt: skip
CEL = ("cel_expr_python.cel", "google.protobuf", "sidecar.policy.conditions")
CEL_PARTS = ("cel_expr_python.ext.ext_optional", "cel_expr_python.ext.ext_strings")
CONDITION = "args.amount > args.limit * 2"
ON_TEXTS = 'args.text.split("-")[0] == "a"'
DETECTION = "detection: d\nseverity: low\nwhere: {when: args.amount > args.limit}\n"


def modules_of_a_serving_sidecar(folder: Path, *, when: str = "", detection: str = "") -> set[str]:
    condition = f"\n    when: {json.dumps(when)}" if when else ""
    (folder / "policies").mkdir()
    (folder / "policies" / "p.yaml").write_text(
        f"policy: p\nrules:\n  - id: r\n    effect: allow\n    tools: tools/pay{condition}\n"
    )
    (folder / "policies" / "c.yaml").write_text("catalogue: tools\ntools: {pay: {}}\n")
    if detection:
        (folder / "policies" / "d.yaml").write_text(detection)
    config = folder / "sidecar.yaml"
    config.write_text(
        f"listen: {{data: '127.0.0.1:{free_port()}', control: '127.0.0.1:{free_port()}'}}\n"
        "store: sqlite:///aegis.db\n"
        "policies: ./policies\nupstreams: {tools: {url: 'http://127.0.0.1:9/mcp', kind: mcp}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(config)], capture_output=True, text=True, timeout=60
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("MODULES ")]
    assert done.returncode == 0 and len(told) == 1, done.stderr
    found = set(json.loads(told[0].removeprefix("MODULES ")))
    assert {"aiohttp", "aiosqlite", "sidecar.api_rooms"} <= found  # it does serve
    return found


@pytest.mark.parametrize(("when", "detection", "has_cel", "has_parts"), [
    ("", "", False, False),
    (CONDITION, "", True, False),
    (ON_TEXTS, "", True, True),
    ("args.?amount.orValue(0) == 0", "", True, True),
    ("", DETECTION, True, False),
], ids=["no-condition", "condition", "on-texts", "optional", "detection"])  # fmt: skip
def test_libraries_are_loaded_for_what_uses_them(
    tmp_path: Path, when: str, detection: str, has_cel: bool, has_parts: bool
) -> None:
    found = modules_of_a_serving_sidecar(tmp_path, when=when, detection=detection)
    assert [name for name in NEVER if name in found] == []
    assert [name for name in CEL if name in found] == list(CEL if has_cel else ())
    assert [name for name in CEL_PARTS if name in found] == list(CEL_PARTS if has_parts else ())


def test_the_control_listener_is_imported_after_the_store_was_measured() -> None:
    """Its modules take the memory that the measuring leaves."""
    code = (
        "import sys, sidecar.app; print([n for n in sys.modules if n.startswith("
        "('sidecar.api_rooms', 'sidecar.control.api', 'sidecar.control.console'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_free_memory_is_given_back_when_start_up_is_over() -> None:
    """Blocks of 1000 bytes, every hundredth of which stays: the rest is free in between."""
    code = """
from pathlib import Path
from sidecar.rooms import settle

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

blocks = [bytes(1000) for _ in range(60_000)]
kept = blocks[::100]
del blocks
before = resident_mb()
settle()
print(before - resident_mb() > 30)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
