"""One tree of nodes from file, environment and flags; every node remembers where it came from.

Knows: precedence (flag, then environment, then file), `AEGIS_LISTEN__DATA` and
`--set listen.data=…`, and that the position of a node names its source.
Must not know: which settings there are, beyond which words can begin a key and below which of
them users choose names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from sidecar.problems import Position, Problem
from sidecar.yaml_reader import Node, read_yaml

PREFIX = "AEGIS_"
FLAG = "--set"
#: A name that users chose, whichever it is.
_CHOSEN = "*"
#: Below these places users choose names (`*` is such a name), which have no `_`: in a variable it
#: stands for `-`. A place and not its last word says so: an upstream may be called `agents`.
_NAMED = frozenset(
    {
        ("upstreams",),
        ("sinks",),
        ("tenants",),
        ("tenants", _CHOSEN, "agents"),
        ("tenants", _CHOSEN, "people"),
    }
)
#: A listener may be written short; this is what the short form stands for.
_SHORT_FORM = "address"
_LISTENERS = (("listen", "data"), ("listen", "control"))
#: What is not plain text: a list, a mapping, quoted text, a number, a boolean, nothing.
_STRUCTURED = re.compile(r"""\[.*\]|\{.*\}|".*"|'.*'|[-+]?[0-9.]+|true|false|null|~""", re.DOTALL)
_KEY = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class Merge:
    """Puts values over a tree. `problems` gathers what could not be put."""

    def __init__(
        self,
        root: Node,
        top_level: Collection[str],
        variable_meant: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`variable_meant` knows what is meant by a variable that names no setting as it should."""
        self.root = root
        self.problems: list[Problem] = []
        self._top_level = top_level
        self._variable_meant = variable_meant

    def environment(self, environ: Mapping[str, str]) -> None:
        """Puts every variable that is a setting.

        `AEGIS_…__…` always is one, unless a `{env:}` refers to it; without `__` only if it is
        the name of a top-level setting, since Kubernetes and scripts bring AEGIS_ variables too.
        """
        referenced = set(_referenced(self.root))
        referenced.update(environ[name] for name in environ if name.endswith("__ENV"))
        for name in sorted(environ):
            word = name.removeprefix(PREFIX).lower()
            if not name.startswith(PREFIX) or name in referenced:
                continue
            if "__" in word or word in self._top_level:
                self._put(_path_of_variable(word), environ[name], name)
            elif meant := self._meant(word):
                hint = f'did you mean "{PREFIX}{meant.upper()}"?'
                text = "is not a setting"
                self.problems.append(Problem(Position(name), text, hint, is_warning=True))

    def _meant(self, word: str) -> str:
        near = difflib.get_close_matches(word, self._top_level, 1, 0.8)
        return near[0] if near else self._variable_meant(word)

    def flags(self, overrides: Sequence[str]) -> None:
        """Puts `key=value` texts; of two for one key the later wins."""
        for text in overrides:
            key, separator, value = text.partition("=")
            if separator and _KEY.fullmatch(key):
                self._put(key.split("."), value, f"{FLAG} {key}")
            else:
                # Not repeated: without its key it may be a secret.
                message = "not KEY=VALUE, e.g. limits.queue=100"
                self.problems.append(Problem(Position(FLAG), message))

    def _put(self, path: Sequence[str], text: str, source: str) -> None:
        position = Position(source)
        node, found = _read(text, position)
        self.problems += found
        if node is None:
            return
        if tuple(path) in _LISTENERS and not node.is_mapping:
            path = (*path, _SHORT_FORM)
        self.root = self._with(self.root, path, 0, node)

    def _with(self, node: Node, path: Sequence[str], depth: int, value: Node) -> Node:
        """`node`, in which the member that `path[depth:]` leads to is `value`."""
        if depth == len(path):
            return value
        if not node.is_mapping:
            if tuple(path[:depth]) in _LISTENERS:
                node = Node({_SHORT_FORM: node}, node.position, node.key_position)
            else:
                key = ".".join(path[:depth])
                message = f"{key} is {node.kind}, so it has no {path[depth]}"
                self.problems.append(Problem(value.position, message, f"see {node.position}"))
                return node
        name = path[depth]
        below = node.value.get(name, Node({}, value.position, value.position))
        members = {**node.value, name: self._with(below, path, depth + 1, value)}
        return Node(members, node.position, node.key_position)


def origin_of(root: Node, key: str) -> str:
    """Where a setting came from: flag, environment, file or default."""
    node = root
    for name in key.split("."):
        if not node.is_mapping or name not in node.value:
            return "default"
        node = node.value[name]
    if node.is_mapping and _SHORT_FORM in node.value:
        node = node.value[_SHORT_FORM]
    found = set(_origins(node))
    return next((one for one in ("flag", "environment", "file") if one in found), "default")


def _origins(node: Node) -> Iterator[str]:
    if node.is_mapping:
        for child in node.value.values():
            yield from _origins(child)
    elif node.position.line:
        yield "file"
    else:
        yield "flag" if node.position.source.startswith(FLAG) else "environment"


def _path_of_variable(word: str) -> list[str]:
    path: list[str] = []
    place: tuple[str, ...] = ()
    for part in word.split("__"):
        is_chosen = place in _NAMED
        path.append(part.replace("_", "-") if is_chosen else part)
        place = (*place, _CHOSEN if is_chosen else part)
    return path


def _read(text: str, position: Position) -> tuple[Node | None, list[Problem]]:
    """A value: YAML if it is a list, a mapping, quoted, a number or a boolean; else plain text.

    Plain text is taken as it is, so that `#` and `: ` need no second quoting in a shell.
    """
    if not text.strip():
        return None, [Problem(position, "a value is missing")]
    if _STRUCTURED.fullmatch(text.strip()):
        node, found = read_yaml(position.source, text.encode("utf-8", "surrogateescape"))
        problems = [replace(problem, position=position) for problem in found]
        return (_moved(node, position) if node is not None else None), problems
    if not text.isprintable():
        return None, [Problem(position, "not UTF-8, or control characters in it")]
    return Node(text, position, position, is_plain=True), []


def _moved(node: Node, position: Position) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _moved(child, position) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_moved(child, position) for child in value]
    return Node(value, position, position, node.is_plain)


def _referenced(node: Node) -> Iterator[str]:
    """The variables that some `{env: NAME}` names."""
    if node.is_list:
        for child in node.value:
            yield from _referenced(child)
    elif node.is_mapping:
        for key, child in node.value.items():
            if key == "env" and isinstance(child.value, str):
                yield child.value
            else:
                yield from _referenced(child)
