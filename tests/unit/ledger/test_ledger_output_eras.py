"""What one server says of what a tool gives back to clients of two eras; the cases are an SDK's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.ledger.output_eras import told_otherwise
from sidecar.ledger.tool_definition import definition_of

CASES = json.loads(
    (Path(__file__).parents[2] / "cases" / "mcp" / "output_eras.json").read_text("utf-8")
)


def tool(schema: Any) -> dict[str, Any]:
    return {"name": "list", "description": "Lists.", "outputSchema": schema}


@pytest.mark.parametrize("case", CASES["told"], ids=lambda case: str(case["name"]))
def test_c12_what_both_eras_are_told_is_one_definition(case: dict[str, Any]) -> None:
    modern, older = case["modern"], case["older"]
    assert (told_otherwise(modern), told_otherwise(older)) == (older, modern)
    one, other = definition_of(tool(modern)), definition_of(tool(older))
    assert one.sha256 != other.sha256
    assert one.is_what(other.sha256) and other.is_what(one.sha256)
    for changed in ({**tool(older), "description": "Sends."}, tool({**modern, "title": "x"})):
        found = definition_of(changed)
        assert not found.is_what(one.sha256) and not found.is_what(other.sha256)


@pytest.mark.parametrize("case", CASES["alike"], ids=lambda case: str(case["name"]))
def test_c12_what_both_eras_are_told_alike_has_one_hash(case: dict[str, Any]) -> None:
    assert told_otherwise(case["schema"]) is None
    assert definition_of(tool(case["schema"])).twin_sha256 == ""
    assert not definition_of(tool(case["schema"])).is_what("")


@pytest.mark.parametrize("schema", [None, True, [], "x"])
def test_what_is_no_schema_has_no_other_form(schema: Any) -> None:
    assert told_otherwise(schema) is None


def test_what_is_too_deep_to_be_looked_at_has_no_other_form() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    assert told_otherwise(schema) is None
