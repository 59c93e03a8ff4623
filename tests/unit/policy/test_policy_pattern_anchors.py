"""Whether a pattern is held to the whole text: what is said to be so is found nowhere else."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sidecar.policy.pattern_anchors import is_held_to_the_whole

TEXTS = ["".join(one) for length in range(5) for one in itertools.product("ab", repeat=length)]
PIECES = ["^", "$", "a", "b", "|", "(", ")", "?", "+", "{0}", "{2}", "(?:", "[$]", r"\$", "."]


@settings(max_examples=400, deadline=None)
@example("^a|b$")
@example("(^a|b)$")
@example("(^a){0}b$")
@example("^a$|^b$")
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_what_is_held_to_the_whole_matches_nothing_less(pattern: str) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error:
        assume(False)
    if is_held_to_the_whole(pattern):
        found = [(one, match) for one in TEXTS if (match := compiled.search(one)) is not None]
        assert all(match.span() == (0, len(one)) for one, match in found), pattern


@pytest.mark.parametrize("pattern", ["(", "[", "\\p{Greek", "(?P<x"])
def test_of_what_is_not_understood_nobody_knows(pattern: str) -> None:
    assert not is_held_to_the_whole(f"^{pattern}$")
