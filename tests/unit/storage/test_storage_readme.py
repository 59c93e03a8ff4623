"""storage/README.md names every table, and its table of bytes is what was measured.

To write it anew after a measurement: AEGIS_WRITE_README=1 python -m pytest THIS_FILE
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "storage/README.md"
RESULTS = ROOT / "tests/results/store.json"
START, END = "<!-- bytes -->\n", "<!-- /bytes -->"


def bytes_table(figures: dict[str, Any]) -> str:
    """The part of the results as the README shows it."""
    engines = {"sqlite": figures["sqlite"], "postgres": figures["postgres"]}
    names = list(engines["sqlite"]["by_name"])
    names += [name for name in engines["postgres"]["by_name"] if name not in names]

    def row(label: str, values: list[float | None]) -> str:
        cells = ["" if value is None else f"{value:,.0f}" for value in values]
        return f"| {label} | " + " | ".join(cells) + " |"

    rows = [
        f"Bytes a call, with {figures['arguments_bytes']} bytes of arguments and "
        f"{figures['facts_bytes']} of facts, after {figures['calls']:,} calls (commit "
        f"{figures['commit']}). `(key)` is the index of a primary key. The write-ahead log is not "
        "counted: a SQLite file's is taken into the file and starts over, a server's is shared.",
        "",
        "| table or index | SQLite | PostgreSQL |",
        "| --- | ---: | ---: |",
    ]
    for name in names:
        label = f"`{name.removesuffix(' (key)')}`" + (" (key)" if name.endswith(" (key)") else "")
        rows.append(row(label, [engine["by_name"].get(name) for engine in engines.values()]))
    rows.append(row("all others", [engine["all_others"] for engine in engines.values()]))
    rows.append(row("**together**", [engine["total"] for engine in engines.values()]))
    return "\n".join(rows) + "\n"


def test_the_table_of_bytes_is_what_was_measured() -> None:
    text = README.read_text()
    assert text.count(START) == text.count(END) == 1
    before, rest = text.split(START)
    found, after = rest.split(END)
    wanted = bytes_table(json.loads(RESULTS.read_text())["bytes"])
    if os.environ.get("AEGIS_WRITE_README"):
        README.write_text(before + START + wanted + END + after)
        return
    assert found == wanted


def test_what_was_measured_adds_up_and_is_within_its_line() -> None:
    figures = json.loads(RESULTS.read_text())["bytes"]
    for engine in ("sqlite", "postgres"):
        known = figures[engine]
        together = sum(known["by_name"].values()) + known["all_others"]
        assert abs(together - known["total"]) < 2, engine
        assert known["total"] <= 2000, engine


def test_the_readme_names_every_table_of_the_schema_and_no_other() -> None:
    created: set[str] = set()
    for path in [*(ROOT / "storage/migrations").glob("*.sql"), *(ROOT / "storage/sql").glob("*")]:
        pattern = r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)"
        created.update(re.findall(pattern, path.read_text(), re.MULTILINE))
        for made, name in re.findall(r"^ALTER TABLE (\w+) RENAME TO (\w+)", path.read_text(), re.M):
            created.discard(made)
            created.add(name)
    section = README.read_text().split("## Tables")[1].split("\n\n")[1]
    named = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert named == created
    assert "receipts" in named, "positive control"


def test_files_named_in_the_readme_exist() -> None:
    text = README.read_text()
    named = re.findall(r"`(\w+\.py)`", text)
    assert named
    assert [name for name in named if not (ROOT / "storage" / name).exists()] == []
