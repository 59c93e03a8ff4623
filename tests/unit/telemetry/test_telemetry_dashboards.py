"""The dashboards are what their source says, fit Grafana's form, and ask only for what is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_names import (
    DASHBOARDS,
    GRAFANA,
    OF_PROMETHEUS,
    Series,
    dashboard,
    exported_series,
    pictures,
    queries,
    recorded_series,
    rules_of,
    texts,
    wrong_in,
)

COLUMNS = 24


@pytest.fixture(scope="module")
def known() -> Series:
    exported = exported_series()
    rules = [rule for text in texts().values() for rule in rules_of(text)]
    recorded = recorded_series(rules, exported)
    return {**exported, **recorded, **{name: {} for name in OF_PROMETHEUS}}


def test_the_files_are_what_their_source_makes(tmp_path: Path) -> None:
    for name in ("dashboard.py", "make_dashboards.py"):
        shutil.copy(GRAFANA / name, tmp_path)
    (tmp_path / "dashboards").mkdir()
    subprocess.run([sys.executable, str(tmp_path / "make_dashboards.py")], check=True, timeout=30)
    made = {path.name: path.read_text() for path in (tmp_path / "dashboards").iterdir()}
    assert made == {path.name: path.read_text() for path in DASHBOARDS}, (
        "run python3 deploy/grafana/make_dashboards.py"
    )
    assert len(DASHBOARDS) == 3


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_series_and_label_of_a_dashboard_is_exported_or_recorded(
    path: Path, known: Series
) -> None:
    asked = list(queries(dashboard(path)))
    assert len(asked) > 15
    assert [line for expression in asked for line in wrong_in(expression, known)] == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("aegis_refusals_total", "aegis_refused_total", "no series aegis_refused_total"),
        ("sum by (code)", "sum by (cause_code)", "no label cause_code"),
        ("aegis:refused:share5m", "aegis:refused:share1h", "no series aegis:refused:share1h"),
        ("aegis_decisions_total{", 'aegis_decisions_total{lane="x",', "has no label lane"),
    ],
)
def test_a_planted_wrong_name_is_found(known: Series, right: str, wrong: str, said: str) -> None:
    asked = list(queries(dashboard(GRAFANA / "dashboards" / "aegis-overview.json")))
    assert any(right in expression for expression in asked), "the plant has its place"
    found = [line for e in asked for line in wrong_in(e.replace(right, wrong), known)]
    assert any(line.endswith(said) for line in found), found


# -- the form that Grafana reads -----------------------------------------------------------------


def malformed(board: dict[str, Any]) -> Iterator[str]:
    """A line for each thing that Grafana would not show as it is meant."""
    ids = [panel["id"] for panel in board["panels"]]
    if len(set(ids)) != len(ids):
        yield "two panels have one id"
    places = [(panel["title"], panel["gridPos"]) for panel in board["panels"]]
    for title, place in places:
        if place["x"] < 0 or place["x"] + place["w"] > COLUMNS or place["w"] < 1:
            yield f"{title}: beside the grid"
    for (one, a), (other, b) in combinations(places, 2):
        if (a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
                and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]):  # fmt: skip
            yield f"{one} lies over {other}"
    kinds = {one["name"]: one["type"] for one in board["templating"]["list"]}
    if kinds.get("source") != "datasource":
        yield "no variable for the source"
    for panel in pictures(board):
        asked = panel["targets"]
        if any(one["datasource"]["uid"] != "${source}" for one in (panel, *asked)):
            yield f"{panel['title']}: a source of its own"
        if len({one["refId"] for one in asked}) != len(asked) or not asked:
            yield f"{panel['title']}: queries without names of their own"
        if not panel["description"].endswith("."):
            yield f"{panel['title']}: says nothing"
        if any("$instance" not in one["expr"] for one in asked):
            yield f"{panel['title']}: of all sidecars, whichever are chosen"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_the_form_that_grafana_reads(path: Path) -> None:
    board = dashboard(path)
    assert list(malformed(board)) == []
    assert board["uid"] == path.stem and board["schemaVersion"] >= 36


def test_a_malformed_dashboard_is_found() -> None:
    board = dashboard(DASHBOARDS[0])
    first, second, third = pictures(board)[:3]
    second["id"], second["gridPos"] = first["id"], dict(first["gridPos"])
    third["gridPos"]["x"] = COLUMNS
    third["targets"][0]["datasource"] = {"type": "prometheus", "uid": "mine"}
    found = set(malformed(board))
    assert {"two panels have one id", f"{first['title']} lies over {second['title']}",
            f"{third['title']}: beside the grid",
            f"{third['title']}: a source of its own"} <= found  # fmt: skip


def test_the_dashboards_are_provisioned_from_where_they_are_mounted() -> None:
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text("utf-8"))
    mounts = compose["services"]["grafana"]["volumes"]
    (provider,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "aegis.yaml").read_text("utf-8")
    )["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in mounts


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    asked = [e for path in DASHBOARDS for e in queries(dashboard(path))]

    def checked(expressions: list[str]) -> int:
        rules = [{"record": f"asked:{number}", "expr": e} for number, e in enumerate(expressions)]
        path = tmp_path / "rules.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
        tool = shutil.which("promtool")
        assert tool is not None, "promtool is missing: install Debian's package prometheus"
        return subprocess.run([tool, "check", "rules", str(path)], capture_output=True).returncode

    assert checked(asked) == 0
    assert checked([*asked[:2], asked[2] + ")"]) != 0
