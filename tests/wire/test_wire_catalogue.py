"""Every case of the door's and of MCP's catalogue is held by a test that bears its id."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CATALOGUE = [f"b{n}" for n in range(1, 26)] + [f"c{n}" for n in range(1, 18)]
_NAME = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


def names() -> list[str]:
    """The names of all tests there are."""
    texts = (path.read_text() for path in sorted(TESTS.rglob("test_*.py")))
    return [name for text in texts for name in _NAME.findall(text)]


def held(case: str, tests: list[str]) -> list[str]:
    """The tests whose name holds the id as a word of its own: `b1` is not in `test_b12_…`."""
    return [name for name in tests if case in name.split("_")]


def test_every_case_has_a_test_that_bears_its_id() -> None:
    tests = names()
    missing = [case for case in CATALOGUE if not held(case, tests)]
    assert missing == [], f"no test bears the id of {missing}"


def test_an_id_is_a_word_of_its_own() -> None:
    assert held("b1", ["test_b12_underscores", "test_b1_lengths", "test_b11_b1_x"]) == [
        "test_b1_lengths",
        "test_b11_b1_x",
    ]
    assert held("c99", names()) == []
