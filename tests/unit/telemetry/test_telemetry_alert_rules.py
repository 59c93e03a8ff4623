"""The alert and recording rules: they ask only for what is exported, and every alert is explained.

Names and label values are compared with a real exposition, so a renamed metric fails here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_names import (
    FOLDER,
    RULE_FILES,
    Series,
    asked_by,
    exported_series,
    expressions,
    rules_of,
    texts,
    wrong_names,
)

CASES = sorted((FOLDER / "tests").glob("*.yaml"))
#: Cases that last for days, written and run with hours in their place.
BY_THE_HOUR = sorted((FOLDER / "tests" / "by-the-hour").glob("*.yaml"))


@pytest.fixture(scope="module")
def exported() -> Series:
    return exported_series()


def test_every_series_label_and_value_that_is_asked_for_is_exported_or_recorded(
    exported: Series,
) -> None:
    assert wrong_names(texts(), exported) == []
    names = set().union(
        *(asked_by(e).names for t in texts().values() for r in rules_of(t) for e in expressions(r))
    )
    assert {"aegis_store_utilisation_ratio", "aegis_process_loop_busy_ratio", "up"} <= names
    assert len(names) > 20, "the reader of expressions sees them"


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("aegis_store_wal_bytes >", "aegis_store_log_bytes >", "no series aegis_store_log_bytes"),
        ("delta(aegis_store_wal_bytes[", "delta(wal_bytes[", "no series wal_bytes"),
        ("aegis:utilisation_nearer:ratio > 0.7", "aegis:nearer > 0.7", "no series aegis:nearer"),
        ("topk(1, aegis:utilisation:ratio", "topk(1, aegis:share", "no series aegis:share"),
        ("|store_read_only|", "|store_readonly|", "{reason=store_readonly}"),
        ('lane="committed",reason', 'line="committed",reason', "has no label line"),
        ("sum without (lane, reason)", "sum without (lanes, reason)", "no label lanes"),
        ("rate(aegis_refusals_total[", "rate(aegis_refusals[", "no series aegis_refusals"),
        ("completed|aborted", "complete|aborted", "{outcome=complete}"),
    ],
)
def test_a_planted_wrong_name_is_found(exported: Series, right: str, wrong: str, said: str) -> None:
    files = texts()
    assert any(right in text for text in files.values()), "the plant has its place"
    planted = {name: text.replace(right, wrong) for name, text in files.items()}
    found = wrong_names(planted, exported)
    assert any(line.endswith(said) for line in found), found


def alerts() -> list[dict[str, Any]]:
    return [rule for text in texts().values() for rule in rules_of(text) if "alert" in rule]


def unexplained(rules: list[dict[str, Any]], readme: str) -> list[str]:
    """A line for each alert that does not say what it is, or that has no paragraph."""
    paragraphs = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=\n\n|\Z)", readme, re.M | re.S))
    found = []
    for rule in rules:
        name, notes = rule["alert"], rule.get("annotations", {})
        if rule.get("labels", {}).get("severity") not in ("critical", "warning", "info"):
            found.append(f"{name}: no severity")
        found += [f"{name}: no {note}" for note in ("summary", "description") if not notes[note]]
        if notes.get("runbook") != f"deploy/prometheus/README.md#{name.lower()}":
            found.append(f"{name}: the runbook is elsewhere")
        if len(paragraphs.get(name, "")) < 200:
            found.append(f"{name}: no paragraph")
    known = {rule["alert"] for rule in rules}
    return found + [f"{name}: explained, and no alert" for name in sorted(set(paragraphs) - known)]


def test_every_alert_says_what_it_is_and_has_its_paragraph() -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert len(alerts()) > 10
    assert unexplained(alerts(), readme) == []
    headless = readme.replace("### AegisNearCeiling", "### AegisCeiling")
    assert unexplained(alerts(), headless) == [
        "AegisNearCeiling: no paragraph",
        "AegisCeiling: explained, and no alert",
    ]


def test_the_readme_names_every_recorded_series() -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    rules = [rule for text in texts().values() for rule in rules_of(text)]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    listed = set(re.findall(r"^\| `(aegis:[\w:]+)", readme, re.M))
    assert listed == recorded


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: dict[tuple[str, str], set[bool]] = {}
    for path in (*CASES, *BY_THE_HOUR):
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for look in case.get("alert_rule_test", []):
                expected = look["exp_alerts"]
                for severity in ("critical", "warning", "info"):
                    has = any(one["exp_labels"]["severity"] == severity for one in expected)
                    fires.setdefault((look["alertname"], severity), set()).add(has)
    wanted = {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
    assert {key for key, seen in fires.items() if seen == {True, False}} == wanted


# -- as Prometheus' own tool sees them -------------------------------------------------------


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    """Debian's package `prometheus` brings it; tests/run.sh sees to that."""
    tool = shutil.which("promtool")
    assert tool is not None, "promtool is missing: install Debian's package prometheus"
    return subprocess.run(
        [tool, *arguments], cwd=folder, capture_output=True, text=True, timeout=100
    )


def test_promtool_accepts_the_rules_and_the_example() -> None:
    checked = promtool("check", "rules", "--lint-fatal", *RULE_FILES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    checked = promtool("check", "config", "prometheus.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_promtool_finds_every_case_as_expected() -> None:
    assert len(CASES) > 5
    checked = promtool("test", "rules", *(f"tests/{path.name}" for path in CASES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = re.compile(r"((?:\[|for: |interval: |offset ))(\d+)([smhd])\b")


def by_the_hour(text: str) -> str:
    """The same rules with a day as long as an hour."""

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * UNIT_MS[found[3]] // 24}ms"

    return DURATION.sub(shorter, text).replace("86400", "3600")


def test_a_day_becomes_an_hour_and_nothing_else_changes() -> None:
    assert by_the_hour("x[14d] offset 6h > 14d_y * 86400\nfor: 1m") == (
        "x[50400000ms] offset 900000ms > 14d_y * 3600\nfor: 2500ms"
    )


def run_case(folder: Path, files: dict[str, str], case: Path) -> subprocess.CompletedProcess[str]:
    """Runs one file of cases over the given rules."""
    for name, text in files.items():
        (folder / name).write_text(by_the_hour(text) if case in BY_THE_HOUR else text)
    (folder / "tests").mkdir()
    shutil.copy(case, folder / "tests")
    return promtool("test", "rules", f"tests/{case.name}", folder=folder)


@pytest.mark.parametrize("case", BY_THE_HOUR, ids=lambda path: path.stem)
def test_promtool_finds_every_case_of_days_as_expected(tmp_path: Path, case: Path) -> None:
    checked = run_case(tmp_path, texts(), case)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "case"),
    [
        ("aegis:utilisation_nearer:ratio > 0.7", "aegis:utilisation_nearer:ratio > 0.9", "ceiling"),
        ("aegis:utilisation_nearer:ratio > 0.7", "aegis:utilisation_nearer:ratio > 0.4", "ceiling"),
        ("for: 15m", "for: 1m", "ceiling"),
        ('info{engine!="sqlite"}', "info", "failover"),
        ("aegis_store_writable == 0", "aegis_store_writable == 2", "failover"),
        ("aegis_store_failovers_total[5m]", "aegis_store_reopened_total[5m]", "failover"),
        ("without (result)", "without (job)", "failover"),
        ('{lane="committed",reason!="closed"}', "", "refused"),
        ("delta(aegis_store_wal_bytes[10m]) > 0", "aegis_store_wal_bytes > 1", "write-path"),
        ("+ ignoring (lane) aegis_write_queue_reserved", "", "write-path"),
        ("quantile_over_time(0.99,", "max_over_time(", "trend"),
        ("aegis:refused_closed:share5m > 14.4", "aegis:refused_closed:share5m >= 0", "budgets"),
        ("aegis:added_late:share6h > 6 * 0.01", "aegis:added_late:share6h > 11 * 0.01", "budgets"),
    ],
)
def test_promtool_would_find_a_changed_rule(
    tmp_path: Path, right: str, wrong: str, case: str
) -> None:
    assert any(right in text for text in texts().values()), "the plant has its place"
    planted = {name: text.replace(right, wrong) for name, text in texts().items()}
    (path,) = (path for path in (*CASES, *BY_THE_HOUR) if path.stem == case)
    checked = run_case(tmp_path, planted, path)
    assert checked.returncode != 0
    assert "FAILED" in checked.stdout + checked.stderr
