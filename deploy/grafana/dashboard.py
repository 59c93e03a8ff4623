"""What a dashboard is made of: panels in rows, put into Grafana's JSON.

Knows: the form of a dashboard (schema 39), how panels fill a grid of 24 columns, that every query
goes to the source a variable names and to the sidecars another one names.
Must not know: which metrics there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

COLUMNS: Final = 24
SCHEMA_VERSION: Final = 39
#: What every query is about: the sidecars chosen at the top. Written `<of>` in a query.
CHOSEN: Final = 'instance=~"$instance"'
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """One picture: what it shows, in which unit, by which queries (expression, name of the line).

    `steps` are the values at which its colour changes, `kind` is Grafana's name of the form.
    """

    title: str
    says: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    steps: Mapping[float, str] = field(default_factory=dict)
    stacked: bool = False
    top: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """`uid` is what links name it by: it stays."""

    uid: str
    title: str
    says: str
    rows: Sequence[Row]

    def as_json(self) -> dict[str, Any]:
        """What Grafana loads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.says,
            "tags": ["aegis-sidecar"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "links": [
                {
                    "type": "dashboards", "tags": ["aegis-sidecar"], "title": "aegis-sidecar",
                    "asDropdown": True, "keepTime": True, "includeVars": True,
                }
            ],
            "annotations": {"list": []},
            "templating": {"list": _variables()},
            "panels": list(self._panels()),
        }  # fmt: skip

    def _panels(self) -> Iterator[dict[str, Any]]:
        number, y = 0, 0
        for row in self.rows:
            number += 1
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            yield {
                "id": number, "type": "row", "title": row.title, "collapsed": False,
                "gridPos": place, "panels": [],
            }  # fmt: skip
            y += 1
            x = height = 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, height = 0, y + height, 0
                number += 1
                place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
                yield _panel(panel, number, place)
                x, height = x + panel.width, max(height, panel.height)
            y += height


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance", "label": "Sidecar", "type": "query", "datasource": SOURCE,
            "query": {"query": "label_values(aegis_build_info, instance)", "refId": "instance"},
            "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]  # fmt: skip


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for value, color in sorted(panel.steps.items())]
    custom: dict[str, Any] = {}
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}}
    if panel.kind == "timeseries":
        custom = {
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif panel.kind == "stat":
        options |= {"colorMode": "value" if panel.steps else "none", "graphMode": "area"}
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "custom": custom}
    defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.top is not None:
        defaults["max"] = panel.top
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expression.replace("<of>", CHOSEN),
                "legendFormat": name,
            }
            for index, (expression, name) in enumerate(panel.queries)
        ],
    }
