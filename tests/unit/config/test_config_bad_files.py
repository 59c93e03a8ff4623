"""Every case of tests/cases/config/bad: a file, and all that is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.load import load_config

CASES = Path(__file__).parents[2] / "cases" / "config" / "bad"
SECRET = "hunter2"
ENVIRON = {
    "AEGIS_CASE_TOKEN": SECRET,
    "AEGIS_CASE_EMPTY": "",
    "AEGIS_CASE_FLAT": SECRET[-1] * 64,
    "AEGIS_CASE_STRONG": f"{SECRET}-a-secret-of-many-words-81",
    "AEGIS_CASE_OTHER": f"another-{SECRET}-of-many-words-17",
    "AEGIS_CASE_HOOK": f"https://hooks.acme.io/{SECRET}",
    "AEGIS_CASE_PLAIN_HOOK": f"http://hooks.acme.io/{SECRET}",
    "AEGIS_CASE_LOGIN_HOOK": f"https://ana:{SECRET}@hooks.acme.io/x",
    "AEGIS_CASE_OURSELVES": f"http://127.0.0.1:8081/{SECRET}",
    "AEGIS_CASE_SYSLOG": "syslog+tcp://logs.acme.io",
    "AEGIS_CASE_TWO_LINES": f"{SECRET}\r\nX: y",
    "AEGIS_CASE_PEM": f"-----BEGIN CERTIFICATE-----\n{SECRET}\n-----END CERTIFICATE-----",
    "AEGIS_CASE_POSTGRES": f"postgresql://aegis:{SECRET}@db",
}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_problem_is_named_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    loaded = load_config(Path(path.name), ENVIRON, [])
    said = "".join(f"{problem}\n" for problem in loaded.problems)
    assert said.replace(str(CASES), "FOLDER") == path.with_suffix(".problems").read_text()
    assert loaded.config is None
    assert SECRET not in said
    assert loaded.is_readable


def test_there_are_cases() -> None:
    assert len(list(CASES.glob("*.yaml"))) >= 20


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    loaded = load_config(tmp_path / "none.yaml", {}, ["limits.queue=1"])
    assert not loaded.is_readable
    assert [problem.message for problem in loaded.problems] == [
        "cannot be read: No such file or directory"
    ]
