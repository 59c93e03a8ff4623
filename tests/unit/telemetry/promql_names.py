"""What PromQL asks for, held against what a sidecar exports and the rules record.

Knows: enough of the language's form to find names of series, labels and their values in it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from prometheus_client.parser import text_string_to_metric_families
from telemetry_setup import make_sources

from sidecar.telemetry.exposition import Exposition

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
GRAFANA = FOLDER.parent / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
#: Recording rules come before what reads them.
RULE_FILES = (
    "aegis-recording.yaml",
    "aegis-alerts.yaml",
    "aegis-budgets.yaml",
    "aegis-upkeep.yaml",
)
#: Every series: its labels, and the values seen of each.
Series = dict[str, dict[str, set[str]]]

#: What Prometheus itself adds: series, and labels of every target.
OF_PROMETHEUS = frozenset({"up"})
OF_TARGETS = frozenset({"job", "instance"})

WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
GROUPING = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.IGNORECASE
)
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*(\"[^\"]*\"|'[^']*'|%q)")
NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\b(?!\s*\()")
QUERY = re.compile(r"\bprintf\s+\"((?:[^\"\\]|\\.)*)\"[^}|]*\|\s*query\b")


class Asked(NamedTuple):
    """What an expression asks for: series, labels it groups by, and (series, label, values)."""

    names: set[str]
    labels: set[str]
    matched: list[tuple[str, str, list[str]]]


def asked_by(expression: str) -> Asked:
    matched = []
    for name, matchers in SELECTOR.findall(expression):
        for label, operator, quoted in MATCHER.findall(matchers):
            value = quoted.strip("\"'")
            values = value.split("|") if operator in ("=~", "!~") else [value]
            matched.append((name, label, [] if value == "%q" else values))
    labels = {
        label.strip()
        for group in GROUPING.findall(expression)
        for label in group.split(",")
        if label.strip()
    }
    bare = re.sub(r"\{[^}]*\}", "", STRING.sub("", GROUPING.sub(" ", expression)))
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    names = {name for name in NAME.findall(bare) if name.lower() not in WORDS}
    return Asked(names, labels, matched)


def exported_series() -> Series:
    """Every series of a real exposition: its labels, and the values seen of each."""
    body, _ = asyncio.run(Exposition(make_sources()).render())
    series: Series = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = series.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return series


def rules_of(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def texts() -> dict[str, str]:
    return {name: (FOLDER / name).read_text("utf-8") for name in RULE_FILES}


def expressions(rule: dict[str, Any]) -> Iterator[str]:
    """What a rule asks for, in its expression and in the queries of its annotations."""
    yield rule["expr"]
    for text in rule.get("annotations", {}).values():
        yield from QUERY.findall(text)


def recorded_series(rules: list[dict[str, Any]], exported: Series) -> Series:
    """What the rules record; its labels are those of what it is made of, and the rule's own."""
    recorded: Series = {}
    for rule in rules:
        if "record" in rule:
            given = recorded.setdefault(rule["record"], {})
            for label, value in rule.get("labels", {}).items():
                given.setdefault(label, set()).add(value)
            for name in asked_by(rule["expr"]).names:
                for label, values in {**exported, **recorded}.get(name, {}).items():
                    given.setdefault(label, set()).update(values)
    return recorded


def wrong_in(expression: str, known: Series) -> list[str]:
    """A line for each series, label or value that an expression asks for and that nothing gives."""
    every_label = {label for labels in known.values() for label in labels} | OF_TARGETS
    asked = asked_by(expression)
    found = [f"no series {name}" for name in sorted(asked.names - set(known))]
    found += [f"no label {label}" for label in sorted(asked.labels - every_label)]
    for name, label, values in asked.matched:
        if label in OF_TARGETS or name not in known:
            continue
        has = known[name].get(label)
        if has is None:
            found.append(f"{name} has no label {label}")
        else:
            found += [f"no {name}{{{label}={v}}}" for v in values if v not in has]
    return found


def wrong_names(files: dict[str, str], exported: Series) -> list[str]:
    """The same for every rule of the files, each line begun with the rule's name."""
    rules = [rule for text in files.values() for rule in rules_of(text)]
    recorded = recorded_series(rules, exported)
    known = {**exported, **recorded, **{name: {} for name in OF_PROMETHEUS}}
    return [
        f"{rule.get('alert') or rule['record']}: {line}"
        for rule in rules
        for expression in expressions(rule)
        for line in wrong_in(expression, known)
    ]


# -- of dashboards ----------------------------------------------------------------------------


def dashboard(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def pictures(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> Iterator[str]:
    """What a dashboard asks for, with a time where Grafana puts one."""
    for panel in pictures(board):
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
