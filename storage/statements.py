"""Loads the named queries of sql/*.sql, in the placeholder style of one engine.

A query is `-- name: some_name`, one or more comment lines that say what it is for, then one
statement. Texts are written with `$1 … $n`. For SQLite they become `?1 … ?n`: SQLite accepts a
bare `$2` but binds it by first appearance, so that values swap silently. A query that must
differ stands, under the same name, in `<file>.<engine>.sql` with its reason.
Must not know: what the queries mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

SQL_FOLDER = Path(__file__).parent / "sql"
ENGINES = ("sqlite", "postgres")

_NAME = re.compile(r"^-- name: *(\S+) *$", re.MULTILINE)
#: A literal, a quoted name or a comment is passed over; the last branch is a placeholder.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|\$(\d+)")


#: The same of a text that is SQLite's already.
_OF_SQLITE = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\?(\d+)")
#: A VALUES row of nothing but placeholders; a condition that closes a statement; a placeholder.
_VALUES = re.compile(r"VALUES (?P<row>\( ?[?$][0-9]+(?:, [?$][0-9]+)* ?\))")
_CONDITION = re.compile(r"WHERE (?P<row>\([^()]*[?$][0-9][^()]*\))$")
_PLACEHOLDER = re.compile(r"([?$])([0-9]+)")


class BadStatement(ValueError):
    """A query file of the package is malformed: a mistake of ours, found by any test run."""


def for_engine(text: str, engine: str) -> str:
    """The text of one query with the engine's placeholders; comments and blank lines gone.

    Raises BadStatement when the placeholders are not exactly $1 … $n.
    """
    numbers: set[int] = set()

    def replace(token: re.Match[str]) -> str:
        if token[1] is None:
            return "" if token[0].startswith("--") else token[0]
        numbers.add(int(token[1]))
        return ("?" if engine == "sqlite" else "$") + token[1]

    rewritten = _TOKEN.sub(replace, text)
    if numbers != set(range(1, len(numbers) + 1)):
        raise BadStatement(f"placeholders {sorted(numbers)} are not $1 to ${len(numbers)}")
    return " ".join(rewritten.split()).removesuffix(";").rstrip()


@lru_cache(maxsize=256)
def widened(text: str, rows: int) -> str | None:
    """The statement for `rows` parameter rows at once, None if it has no row to repeat.

    `VALUES (?1, ?2)` becomes `VALUES (?1, ?2), (?3, ?4), …`, and a closing `WHERE (a = ?1)`
    becomes `WHERE (a = ?1) OR (a = ?2) OR …`. One step for many rows instead of one each: between
    steps a driver's thread gives the interpreter's lock away and must get it back from a busy
    event loop, which costs more than the rows.
    """
    for pattern, separator in ((_VALUES, ", "), (_CONDITION, " OR ")):
        found = pattern.search(text)
        if found is not None:
            row = found["row"]
            width = len(_PLACEHOLDER.findall(row))
            copies = separator.join(_renumbered(row, number * width) for number in range(rows))
            return text[: found.start("row")] + copies + text[found.end("row") :]
    return None


@lru_cache(maxsize=512)
def nameless(text: str) -> str:
    """SQLite's text with bare `?` for `?1 … ?n` where these stand in order, each once; any other as
    it is. To SQLite a number is a name: from 3.12 on Python asks for that of each value it binds,
    which SQLite looks up from the first on, so that of 1,600 values it takes milliseconds.
    """
    in_order = iter(range(1, len(text)))
    if any(int(one) != next(in_order) for one in _OF_SQLITE.findall(text) if one):
        return text
    return _OF_SQLITE.sub(lambda token: token[0] if token[1] is None else "?", text)


def _renumbered(row: str, offset: int) -> str:
    return _PLACEHOLDER.sub(lambda one: f"{one[1]}{int(one[2]) + offset}", row)


def _queries(path: Path, engine: str) -> dict[str, str]:
    """The queries of one file by name."""
    _, *parts = _NAME.split(path.read_text(encoding="utf-8"))
    queries: dict[str, str] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if not text.lstrip().startswith("--"):
            raise BadStatement(f"{path.name}: {name} has no comment")
        if name in queries:
            raise BadStatement(f"{path.name}: {name} stands there twice")
        queries[name] = for_engine(text, engine)
    return queries


def load_statements(engine: str, folder: Path = SQL_FOLDER) -> Mapping[str, str]:
    """Every query by name, for `engine` ('sqlite' or 'postgres'); the package's own are read once.

    Raises BadStatement for a malformed file or a name that stands in two files.
    """
    return _of_package(engine) if folder == SQL_FOLDER else _loaded(engine, folder)


@cache
def _of_package(engine: str) -> Mapping[str, str]:
    return _loaded(engine, SQL_FOLDER)


def _loaded(engine: str, folder: Path) -> Mapping[str, str]:
    shared: dict[str, str] = {}
    variants: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        suffix = Path(path.stem).suffix.removeprefix(".")
        if suffix not in ("", engine, *ENGINES):
            raise BadStatement(f"{path.name}: {suffix} is no engine")
        if suffix not in ("", engine):
            continue
        found = _queries(path, engine)
        target = variants if suffix else shared
        if clash := target.keys() & found.keys():
            raise BadStatement(f"{path.name}: {sorted(clash)} stand in another file too")
        target.update(found)
    return MappingProxyType(shared | variants)
