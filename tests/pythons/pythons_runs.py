"""Other Pythons of this machine, an environment for each, and a run of tests in it.

Knows: where interpreters are kept, how `deploy/environment.sh` is given one, and what a run of
pytest says of itself. Must not know: which tests are worth a run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from full_report import ROOT

OLDEST, NEWEST = (3, 11), (3, 14)
_NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3")
_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


@dataclass
class Run:
    """What came of one run of tests."""

    passed: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    #: What pytest said last, where it gave no figures.
    broke: str = ""


def version_of(python: Path) -> tuple[int, int, int] | None:
    """Its version; None for what does not run."""
    try:
        said = subprocess.run(
            [python, "-c", _VERSION], capture_output=True, text=True, timeout=30, check=True
        )
        major, minor, patch = map(int, said.stdout.strip().split("."))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return major, minor, patch


def other_pythons() -> dict[str, Path]:
    """By version: what is on the PATH, and what pyenv keeps, of the versions README allows, but
    for the very one that runs this: also of one minor version the patches differ."""
    folders = [Path(one) for one in os.environ.get("PATH", "").split(os.pathsep) if one]
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders += sorted(kept.glob("3.*/bin"))
    others: dict[tuple[int, int, int], Path] = {}
    for folder in folders:
        for python in folder.glob("python3.[0-9]*"):
            if not python.name.removeprefix("python3.").isdecimal():
                continue
            found = version_of(python)
            if found is None or not OLDEST <= found[:2] <= NEWEST:
                continue
            if found != sys.version_info[:3]:
                others.setdefault(found, python)
    return {".".join(map(str, found)): path for found, path in sorted(others.items())}


def environment(python: Path, folder: Path) -> Path:
    """The interpreter of a new environment of the tests. Raises RuntimeError."""
    names = folder / "names"
    names.mkdir()
    for name in _NAMES:  # whichever is looked for first
        (names / name).symlink_to(python)
    venv = folder / "venv"
    done = subprocess.run(
        ["bash", "deploy/environment.sh", str(venv), "deploy/requirements-test.lock"],
        cwd=ROOT, env=os.environ | {"PATH": f"{names}:/usr/bin:/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    made = venv / "bin" / "python"
    if done.returncode or version_of(made) != version_of(python):
        raise RuntimeError(f"no environment of {python}: {done.stdout[-500:]}")
    return made


def run_tests(python: Path, places: Sequence[str], *, folder: Path = ROOT) -> Run:
    """The tests of these places, but for those that need the machine to themselves."""
    with tempfile.TemporaryDirectory(prefix="aegis-pythons-") as name:
        report = Path(name) / "report.xml"
        path = f"{python.parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
        done = subprocess.run(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not serial", "-n", "2",
             "--dist", "loadfile", f"--junitxml={report}", *places],
            cwd=folder, env=kept | {"PATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if not report.exists():
            return Run(broke=done.stdout[-1000:] or f"exit code {done.returncode}")
        run = _read(report)
    if done.returncode and not run.failed:
        run.broke = done.stdout[-1000:]
    return run


def _read(report: Path) -> Run:
    run = Run()
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            run.failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            run.skipped += 1
        else:
            run.passed += 1
    return run
