"""Every case of tests/cases/config/overrides.yaml: flags over variables over the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config import merge
from sidecar.config.load import load_config
from sidecar.config.settings import declared, effective

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases/config/overrides.yaml").read_text())
SMALLEST = {"policies": "./policies", "upstreams": {"shop": {"url": "http://shop.internal"}}}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_flags_variables_and_file(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(yaml.safe_dump({**SMALLEST, **case.get("file", {})}, sort_keys=True))
    loaded = load_config(path, case.get("environ", {}), case.get("set", []))
    said = "".join(f"{problem}\n" for problem in loaded.problems)
    assert said.replace(str(path), "FILE") == case.get("problems", "")
    assert "hunter2" not in said
    for key, origin in case.get("origins", {}).items():
        assert (key, loaded.origins[key]) == (key, origin)
    if "expect" in case and loaded.config is not None:
        values = dict(effective(loaded.config))
        assert {key: values[key] for key in case["expect"]} == case["expect"]
    assert (loaded.config is None) == ("error:" in said)


def test_a_variable_knows_every_place_where_users_choose_names() -> None:
    """The table of settings writes such names in capitals: TENANT, AGENT, PERSON, NAME."""
    places = set()
    for setting in declared():
        parts = tuple("*" if part.isupper() else part for part in setting.key.split("."))
        places.update(parts[:at] for at, part in enumerate(parts) if part == "*")
    assert places == merge._NAMED
