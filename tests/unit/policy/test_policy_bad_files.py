"""Every bad file of tests/cases/policy/bad gives exactly the problems written below it.

`UPDATE_CASES=1` writes what is given; read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from policy_setup import CASES, NOTHING, WHOLE, load, shown, split_files

from sidecar.problems import errors_only

BAD = sorted((CASES / "bad").glob("*.yaml"))


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_d3_a_bad_file_is_refused_with_every_problem_in_place(path: Path) -> None:
    parts = split_files(path.read_text())
    wanted = parts.pop("problems", "")
    loaded = load(
        *parts.values(),
        names=tuple(parts),
        upstreams={"github": "rest", "files": "mcp", "payments": "rest"},
        has=NOTHING if path.stem == "not-carried-out" else WHOLE,
    )
    given = shown(loaded.problems)
    if os.environ.get("UPDATE_CASES"):
        kept = "".join(f"### {name}\n{text}" for name, text in parts.items())
        path.write_text(f"{kept}### problems\n{given}\n")
        return
    assert given == wanted.rstrip("\n")
    if not path.stem.startswith("warning"):
        assert loaded.policy_set is None
        assert errors_only(loaded.problems)
    else:
        assert loaded.policy_set is not None


def test_there_are_many_cases() -> None:
    assert len(BAD) >= 25
