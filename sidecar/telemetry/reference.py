"""The README's table of metrics, made from the list itself so that it cannot lie."""

from __future__ import annotations

from sidecar.telemetry.metrics import METRICS


def metrics_table() -> str:
    """A Markdown table with a line for each metric, ending in a line end."""
    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = " ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {_cell(metric.help)} |")
    lines.append("| `process_*` | | | CPU, memory, open files, as Prometheus clients name them. |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
