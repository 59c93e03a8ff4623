"""Looking tools up by globs misses none that fits, and keeps their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import Tool
from sidecar.policy.matchers import Glob
from sidecar.policy.tool_names import ToolNames

_NAMES = st.text("ab/\U0010ffff", min_size=1, max_size=6)
_BEGINNINGS = st.sampled_from(["", "up/", "up/", "*"])
_GLOB = st.builds(str.__add__, _BEGINNINGS, st.text("ab/*\U0010ffff", min_size=1, max_size=5))
_GLOBS = st.lists(_GLOB, min_size=1, max_size=3)


def tool(name: str) -> Tool:
    return Tool("up", name)


@given(st.lists(_NAMES, unique=True, max_size=12), _GLOBS)
def test_every_tool_that_fits_is_among_the_candidates_in_order(
    names: list[str], texts: list[str]
) -> None:
    globs = [Glob(text) for text in texts]
    found = ToolNames(map(tool, names)).candidates(globs)
    tools = [tool(name) for name in names]
    fitting = [one for one in tools if any(glob.matches(one.name) for glob in globs)]
    assert [one for one in found if one in fitting] == fitting
    assert found == [one for one in tools if one in found]


def test_few_are_looked_at() -> None:
    tools = ToolNames(tool(f"t{number}") for number in range(1000))
    assert [one.name for one in tools.candidates([Glob("up/t7")])] == ["up/t7"]
    assert len(tools.candidates([Glob("up/t99*")])) == 11
    assert len(tools.candidates([Glob("*/t*98")])) == 10
    assert tools.candidates([Glob("down/*")]) == []
