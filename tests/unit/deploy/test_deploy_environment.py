"""deploy/environment.sh with real tools, on a PATH that holds only what a case allows."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "deploy" / "environment.sh"
#: What the script itself needs of the system.
COREUTILS = (
    "bash", "sh", "cat", "chmod", "dirname", "basename", "grep", "ls", "mkdir", "mv", "rm", "sed",
)  # fmt: skip
PYTHON = os.path.realpath(sys.executable)


#: A `python3` that runs, of a version for which not everything has been released.
AS_OF_A_LATER_VERSION = (
    f"""exec "{PYTHON}" -c 'import sys; sys.version_info = (3, 15, 0); exec(sys.argv[1])' "$2\""""
)


class Machine:
    """A PATH of our own, an empty HOME, and a lock file that needs no network."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.bin.mkdir()
        self.home.mkdir()
        self.lock = folder / "requirements.lock"
        self.lock.write_text("# nothing\n")
        self.venv = folder / "a folder" / "venv"
        for name in COREUTILS:
            found = shutil.which(name)
            assert found is not None, name
            (self.bin / name).symlink_to(found)

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        keep = {name: os.environ[name] for name in os.environ if "CERT" in name or "CA_" in name}
        return subprocess.run(
            ["bash", str(SCRIPT), *(arguments or (str(self.venv), str(self.lock)))],
            env={**keep, "PATH": str(self.bin), "HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=110,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_venv_makes_an_environment_once(machine: Machine) -> None:
    (machine.bin / "python3").symlink_to(PYTHON)
    machine.program("uv", "echo 'pyenv: uv: command not found' >&2; exit 127")
    first = machine.run()
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count("\n") == 1
    assert "by venv, 0 packages from requirements.lock" in first.stdout
    second = machine.run()
    assert second.stdout == f"environment: {machine.venv} is up to date\n"

    where = "import sidecar; print(sidecar.__file__)"
    python = machine.venv / "bin" / "python"
    done = subprocess.run([python, "-c", where], cwd="/", capture_output=True, text=True)
    assert done.stdout.strip() == str(ROOT / "sidecar" / "__init__.py")
    version = subprocess.run(
        [machine.venv / "bin" / "aegis-sidecar", "--version"], capture_output=True, text=True
    )
    assert version.stdout.startswith("aegis-sidecar ")

    machine.lock.write_text("# another\n")
    third = machine.run()
    assert (third.returncode, "0 packages" in third.stdout) == (0, True)
    stamp = (machine.venv / "aegis-sidecar.lock.sha256").read_text()
    assert stamp.startswith(hashlib.sha256(machine.lock.read_bytes()).hexdigest())


def uv_program(log: Path, install: str) -> str:
    """A uv that makes environments without the cost of pip, and notes how it was called."""
    return (
        f'echo "$*" >>"{log}"\n'
        'case "$1" in\n'
        f'venv) for last; do :; done; exec "{PYTHON}" -m venv --without-pip "$last" ;;\n'
        f"pip) {install} ;;\n"
        "esac"
    )


def test_uv_is_taken_first_and_never_fetches_a_python(machine: Machine) -> None:
    log = machine.home / "uv.log"
    (machine.bin / "python3.11").symlink_to(PYTHON)
    machine.program("uv", uv_program(log, "exit 0"))
    done = machine.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "by uv" in done.stdout
    calls = log.read_text().splitlines()
    (venv,) = [call for call in calls if call.startswith("venv")]
    assert "--no-python-downloads" in venv
    (install,) = [call for call in calls if call.startswith("pip install")]
    assert "--require-hashes" in install


def test_a_certificate_of_the_system_is_tried_before_giving_up(machine: Machine) -> None:
    log = machine.home / "uv.log"
    (machine.bin / "python3").symlink_to(PYTHON)
    machine.program(
        "uv", uv_program(log, '[ "$UV_SYSTEM_CERTS" ] || { echo certificate; exit 2; }')
    )
    assert machine.run().returncode == 0
    assert log.read_text().count("pip install") == 2


def test_virtualenv_is_taken_where_python_came_without_venv(machine: Machine) -> None:
    machine.program(
        "python3",
        f'case "$*" in *ensurepip*|"-m virtualenv"*) exit 1 ;; esac\nexec "{PYTHON}" "$@"',
    )
    machine.program(
        "virtualenv",
        f'[ "$1" = --version ] && exit 0\nfor last; do :; done\nexec "{PYTHON}" -m venv "$last"',
    )
    done = machine.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "by virtualenv" in done.stdout


@pytest.mark.parametrize(("programs", "cure"), [
    ({"apt-get": "exit 0"}, "sudo apt install python3-venv"),
    ({"brew": "exit 0"}, "brew install python@3.14"),
    ({"apt-get": "exit 0", "python3": "exit 1"}, "sudo apt install python3.11-venv"),
    ({"apt-get": "exit 0", "python3": AS_OF_A_LATER_VERSION}, "sudo apt install python3.14-venv"),
    ({"apt-get": "exit 0", "python3.12": 'case "$*" in *ensurepip*|-m*) exit 1 ;; esac'},
     "sudo apt install python3.12-venv"),
    ({}, "curl -LsSf https://astral.sh/uv/install.sh | sh"),
])  # fmt: skip
def test_what_is_missing_is_said_in_one_line(
    machine: Machine, programs: dict[str, str], cure: str
) -> None:
    for name, text in programs.items():
        machine.program(name, text)
    done = machine.run()
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"environment: Python 3.11 to 3.14 with venv is missing. Install it with: {cure}"
    ]


def test_a_folder_that_is_no_environment_is_left_alone(machine: Machine) -> None:
    (machine.bin / "python3").symlink_to(PYTHON)
    machine.venv.mkdir(parents=True)
    (machine.venv / "thesis.txt").write_text("years of work")
    done = machine.run()
    assert done.returncode == 1
    assert "is no Python environment" in done.stderr
    assert [path.name for path in machine.venv.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_written_is_not_told_as_a_python_that_is_missing(
    machine: Machine,
) -> None:
    """As where somebody else made the clone: the tools fail there, and say less."""
    (machine.bin / "python3").symlink_to(PYTHON)
    machine.venv.parent.mkdir()
    shut = machine.venv.parent / "file"
    shut.symlink_to("/proc/nothing-can-be-made-here")
    done = machine.run(str(shut), str(machine.lock))
    assert done.returncode == 1
    assert done.stderr.startswith(f"environment: {shut} cannot be written: name another folder")


def test_a_failed_install_is_told_and_tried_again(machine: Machine) -> None:
    (machine.bin / "python3").symlink_to(PYTHON)
    machine.program("uv", uv_program(machine.home / "uv.log", "echo no such hash; exit 1"))
    for _ in range(2):
        done = machine.run()
        assert done.returncode == 1
        assert "requirements.lock failed:\nno such hash" in done.stderr
    machine.program("uv", uv_program(machine.home / "uv.log", "exit 0"))
    assert "0 packages" in machine.run().stdout
    assert "is up to date" in machine.run().stdout


def test_wrong_arguments(machine: Machine) -> None:
    assert machine.run("only-one").returncode == 1
    assert "is no file" in machine.run(str(machine.venv), "nowhere.lock").stderr
