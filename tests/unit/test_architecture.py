"""The rules of the house hold for every file, and the checker that says so can fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from architecture_rules import FILE_LINES_MAX, FUNCTION_LINES_MAX, Source, breaches

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("sidecar", "storage", "policies")
    for path in (ROOT / folder).rglob("*.py")
)


def test_every_file_keeps_the_rules() -> None:
    assert len(FILES) > 40
    found = [
        line for path in FILES for line in breaches(Source(path, (ROOT / path).read_text("utf-8")))
    ]
    assert found == [], "\n".join(found)


def test_storage_can_be_imported_without_the_sidecar() -> None:
    import subprocess

    code = (
        "import sys, storage; "
        "sys.exit(any(name.split('.')[0] == 'sidecar' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60)
    assert done.returncode == 0


LONG_FILE = '"""Doc."""\n' + "x = 1\n" * FILE_LINES_MAX
LONG_FUNCTION = '"""Doc."""\n\ndef long():\n' + "    x = 1\n" * FUNCTION_LINES_MAX


@pytest.mark.parametrize(("path", "code", "said"), [
    ("sidecar/ledger/x.py", "from sidecar.proxy import head", "ledger imports sidecar.proxy.head"),
    ("sidecar/ledger/x.py", "import sidecar.control.server", "which stands above it"),
    ("sidecar/proxy/x.py", "from sidecar import app", "which stands above it"),
    ("sidecar/proxy/x.py", "import sidecar.control.state", "which stands beside it"),
    ("sidecar/app.py", "from sidecar.cli import main", "app imports sidecar.cli.main"),
    ("sidecar/config/x.py", "from sidecar.ledger import chain", "config stands on no floor"),
    ("sidecar/clock.py", "import sidecar.app", "clock stands on no floor"),
    ("sidecar/policy/x.py", "from sidecar.config.model import Config", "policy must not see"),
    ("sidecar/policy/x.py", "def f():\n    import sidecar.clock", "policy must not see"),
    ("sidecar/policy/x.py", "from sidecar import proxy", "policy must not see"),
    ("storage/x.py", "from sidecar.model import Effect", "storage imports sidecar.model.Effect"),
    ("storage/x.py", "import policies", "storage imports policies"),
    ("policies/__init__.py", "import storage", "policies imports storage"),
    ("storage/sql_store.py", "import aiosqlite", "aiosqlite is named outside of"),
    ("storage/sqlite.py", "import asyncpg", "asyncpg is named outside of"),
    ("storage/x.py", "x = 'SELECT a FROM receipts'", "an SQL statement outside of storage/sql"),
    ("sidecar/x.py", "x = f'delete from {t}'", "an SQL statement outside of storage/sql"),
    ("sidecar/control/x.py", "import prometheus_client", "prometheus_client is named outside of"),
    ("sidecar/cli/x.py", "from prometheus_client import Counter", "prometheus_client is named"),
    ("sidecar/proxy/x.py", "from sidecar.policy.load import x\nimport cel_expr_python", "cel_expr"),
    ("sidecar/proxy/x.py", "import storage\nstorage.open_store('x')", "open a store"),
    ("sidecar/ledger/x.py", "from storage import open_store", "open a store"),
    ("sidecar/proxy/x.py", "from .head import x", "relative import"),
    ("sidecar/proxy/x.py", "from . import x", "relative import"),
    ("sidecar/proxy/x.py", LONG_FILE, "split it by subject"),
    ("sidecar/proxy/x.py", LONG_FUNCTION, "long has 71 lines"),
    ("sidecar/proxy/x.py", "", "does not open with a docstring"),
    ("sidecar/proxy/x.py", r'X = re.compile(r"(?:;[ ]*(?:a=b)?[ ]*)*+")', "a possessive group"),
    ("sidecar/proxy/x.py", r'X = re.compile(r"[0-9]++(?:\.[0-9]++)?+")', "a possessive group"),
    ("sidecar/proxy/x.py", r'X = re.compile(rf"(?:[ -][0-9]{{3}}+){{0,{most}}}+")', "possessive"),
])  # fmt: skip
def test_a_planted_breach_is_found(path: str, code: str, said: str) -> None:
    text = code if code.startswith('"""') or not code else f'"""Doc."""\n\n{code}\n'
    assert len(found := breaches(Source(path, text))) == 1, found
    assert said in found[0]
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(("path", "code"), [
    ("sidecar/cli/x.py", "import storage\nfrom sidecar.app import running\nstorage.open_store(1)"),
    ("sidecar/write_path.py", "from sidecar.ledger.lease import x\nfrom storage import open_store"),
    ("sidecar/proxy/x.py", "from sidecar.ledger.recorder import Recorder\nimport sidecar.policy"),
    ("sidecar/proxy/x.py", "from sidecar.config.model import Config\nfrom sidecar.proxy import y"),
    ("sidecar/policy/x.py", "import cel_expr_python\nfrom sidecar.policy.index import PolicySet"),
    ("sidecar/policy/x.py", "from sidecar.model import Tool\nfrom sidecar import errors"),
    ("sidecar/telemetry/x.py", "import prometheus_client"),
    ("sidecar/ledger/x.py", "from storage.records import Entry"),
    ("storage/sqlite.py", "import aiosqlite\nfrom storage.errors import StoreError"),
    ("sidecar/cli/main.py", "from sidecar import __version__"),
    ("sidecar/proxy/x.py", r'X = re.compile(r"[ \t]*+(?:[0-9]{2,}+;)*(?:\r\n)++[a-z]{1,3}+")'),
])  # fmt: skip
def test_what_is_allowed_is_no_breach(path: str, code: str) -> None:
    assert breaches(Source(path, f'"""Doc."""\n\n{code}\n')) == []
