"""The rules of the house as a checker over source text: imports go down, files stay small.

A rule gives one line for each breach, `path:line: what`. It reads text with `ast` and imports
nothing of the product, so that a planted breach can be judged like a real file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

FILE_LINES_MAX = 400
#: Statements stand in storage/sql and storage/migrations; these files derive texts from them.
DERIVES_SQL = ("storage/statements.py", "storage/gathered.py")
_SQL = re.compile(
    r"\s*(SELECT\s.*\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE|"
    r"ALTER\s+TABLE|DROP\s+TABLE|WITH\s+\w+\s+AS\s*\()",
    re.IGNORECASE | re.DOTALL,
)
FUNCTION_LINES_MAX = 70
#: A group of an expression that is repeated possessively. Before Python 3.11.5 what its last try
#: had read counts as matched although it failed (gh-106052): `a/b; x="` was a media type then.
_POSSESSIVE_GROUP = re.compile(r"(?<!\()\)(?:[*+?]|\{[^{}\"']*\}|\{\{.*?\}\})\+")
#: Those of which each try reads nothing, or all that it can, and then nothing can fail.
SOUND_GROUPS = (
    r'(?:[^"\\]|\\.)*+', r'(?:[^"\\]|\\.?)*+', r"(?:\r\n)++", r"(?:\[[ \t\r\n]*+)*+",
    r"(?:[A-Za-z0-9][ -]?+){{{length - 1}}}+",
)  # fmt: skip

#: Rooms of the sidecar from the top down. A room imports itself and what stands below it.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"demo", "wrap"}),
    frozenset({"app"}),
    frozenset({"api_rooms"}),
    frozenset({"rooms", "write_path", "authorize_rooms", "soc_rooms", "telling_rooms"}),
    frozenset({"calibration"}),
    frozenset({"authorize"}),
    frozenset({"control", "proxy"}),
    frozenset({"approvals", "identity", "soc"}),
    frozenset({"ledger"}),
)
#: What belongs to no floor may be used by each of them, and uses no floor itself.
STOREY_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
#: Modules that `policy` may see, beside itself.
SEEN_BY_POLICY = frozenset({"model", "errors", "problems", "yaml_reader", "yaml_section"})
#: Packages named in one place only: package -> the path, or the folder, that may name it.
ONE_PLACE = {
    "aiosqlite": "storage/sqlite.py",
    "asyncpg": "storage/postgres.py",
    "prometheus_client": "sidecar/telemetry/",
    "cel_expr_python": "sidecar/policy/",
    "jsonschema_rs": "sidecar/tool_schemas/check.py",
    "opentelemetry": "sidecar/telemetry/",
}
#: `calibration` opens a scratch store of its own for the composition root, and removes it.
OPENS_A_STORE = ("sidecar/write_path.py", "sidecar/calibration.py", "sidecar/cli/")


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the top of the clone, and its text."""

    path: str
    text: str

    @property
    def room(self) -> str:
        """The package or module below `sidecar`, e.g. `proxy`; "" outside of it."""
        parts = PurePosixPath(self.path).with_suffix("").parts
        return parts[1] if parts[0] == "sidecar" and len(parts) > 1 else ""


def breaches(source: Source) -> list[str]:
    """Every breach of every rule in one file."""
    tree = ast.parse(source.text)
    found = [*_size(source, tree), *_docstring(tree), *_store(source, tree)]
    found += [*_statements(source, tree), *_expressions(source)]
    for line, name in _imports(tree):
        found += [(line, what) for what in _import_breaches(source, name)]
    return [f"{source.path}:{line}: {what}" for line, what in sorted(found)]


def _size(source: Source, tree: ast.Module) -> Iterator[tuple[int, str]]:
    lines = source.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield 1, f"{lines} lines: split it by subject"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {length} lines"


def _docstring(tree: ast.Module) -> Iterator[tuple[int, str]]:
    if not ast.get_docstring(tree):
        yield 1, "the module does not open with a docstring"


def _store(source: Source, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Only the composition root and commands open a store (and `storage` itself defines it)."""
    if source.path.startswith((*OPENS_A_STORE, "storage/")):
        return
    for node in ast.walk(tree):
        names = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}
        attribute = names.get(type(node))
        if attribute is not None and getattr(node, attribute) in ("open_store", "open_reader"):
            yield getattr(node, "lineno", 1), "only write_path.py and cli/ open a store"


def _statements(source: Source, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """SQL in Python, whole or put together."""
    if source.path in DERIVES_SQL:
        return
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _SQL.match(node.value)
        ):
            yield node.lineno, "an SQL statement outside of storage/sql"


def _expressions(source: Source) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.text.splitlines(), 1):
        for sound in SOUND_GROUPS:
            line = line.replace(sound, "")
        if _POSSESSIVE_GROUP.search(line):
            yield number, "a possessive group: before Python 3.11.5 it takes what does not fit"


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, wherever it stands; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}"


def _import_breaches(source: Source, name: str) -> Iterator[str]:
    if name.startswith("."):
        yield "relative import"
        return
    top, *below = name.split(".")
    place = ONE_PLACE.get(top)
    if place is not None and not source.path.startswith(place):
        yield f"{top} is named outside of {place}"
    if source.path.startswith(("storage/", "policies/")):
        if top in {"sidecar", "policies"} or (top == "storage" and source.path[:8] != "storage/"):
            yield f"{source.path.partition('/')[0]} imports {name}, which is ours"
        return
    if top != "sidecar" or not below or below[0] == "__version__":
        return
    yield from _room_breaches(source.room, below[0], name)


def _room_breaches(room: str, target: str, name: str) -> Iterator[str]:
    if room in ("policy", "policies") and target not in (SEEN_BY_POLICY | {"policy"}):
        yield f"policy must not see {name}"
        return
    storey, other = STOREY_OF.get(room), STOREY_OF.get(target)
    if room == target or other is None:
        return
    if storey is None:
        yield f"{room} stands on no floor and must not see {name}"
    elif other < storey:
        yield f"{room} imports {name}, which stands above it"
    elif other == storey and "app" not in (room, target):
        yield f"{room} imports {name}, which stands beside it"
