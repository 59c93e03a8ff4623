"""The README's table of settings, made from the models so that it cannot lie."""

from __future__ import annotations

from sidecar.config.settings import declared


def settings_table() -> str:
    """A Markdown table with a line for each setting, ending in a line end."""
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for setting in declared():
        cells = (f"`{setting.key}`", setting.form, setting.default, setting.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
