"""The store's figures, measured once for all tests of a process.

A sidecar that finds no figures in its data folder measures its disk at start, for a third of a
second of CPU. A run of the tests starts hundreds; nearly none is about that measurement. So the
product's own command measures once, and what it keeps is put where a sidecar will look.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import warm

_FILE = "calibration.json"
_CONFIGURATION = """\
store: sqlite:///aegis.db
policies: [pack:read-only]
upstreams: {none: {url: 'http://127.0.0.1:9'}}
"""
_measured: list[bytes] = []


def keep_figures(folder: Path) -> None:
    """Puts there what `store calibrate` keeps. On another kind of file system they do not hold, and
    the sidecar measures."""
    if not _measured:
        with tempfile.TemporaryDirectory(prefix="aegis-figures-") as name:
            config = Path(name) / "sidecar.yaml"
            config.write_text(_CONFIGURATION)
            command = [sys.executable, "-m", "sidecar.cli.main", "store", "calibrate"]
            done = warm.run([*command, "--config", str(config), "--seconds", "1"], cwd=warm.ROOT)
            assert done.returncode == 0, done.stdout + done.stderr
            _measured.append((Path(name) / _FILE).read_bytes())
    (folder / _FILE).write_bytes(_measured[0])
