"""The harness of other Pythons, with the one there is: it must see what fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import pythons_runs
from pythons_runs import other_pythons, run_tests, version_of

TESTS = """
import pytest

def test_holds():
    assert True

def test_fails():
    assert 1 == 2

@pytest.fixture
def broken():
    raise ValueError

def test_cannot_begin(broken):
    pass

def test_is_left_out():
    pytest.skip("not here")
"""


def test_a_test_that_fails_is_seen_and_one_that_holds_is_counted(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(TESTS)
    run = run_tests(Path(sys.executable), ["test_planted.py"], folder=tmp_path)
    assert (run.passed, run.skipped, run.broke) == (1, 1, "")
    assert run.failed == ["test_planted::test_fails", "test_planted::test_cannot_begin"]


def test_what_does_not_run_at_all_is_no_success(tmp_path: Path) -> None:
    run = run_tests(Path(sys.executable), ["test_not_there.py"], folder=tmp_path)
    assert not run.passed and run.broke
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    run = run_tests(Path(sys.executable), ["test_broken.py"], folder=tmp_path)
    assert not run.passed and (run.failed or run.broke)


def test_other_pythons_run_and_are_of_other_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, command, says in (
        ("a", "python3.98", "3.98.1"),
        ("b", "python3.98", "3.98.2"),
        ("c", "python3.9", "3.9.1"),
        ("d", "python3.97", "nothing"),
        ("f", "python3.99", "3.99.0"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / command).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / name / command).chmod(0o755)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "python3.11").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / name) for name in "abcdef") + ":/nowhere")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "no"))
    monkeypatch.setattr(pythons_runs, "NEWEST", (3, 98))
    assert other_pythons() == {
        "3.98.1": tmp_path / "a" / "python3.98", "3.98.2": tmp_path / "b" / "python3.98",
    }  # fmt: skip
    assert version_of(Path(sys.executable)) == sys.version_info[:3], "positive control"
