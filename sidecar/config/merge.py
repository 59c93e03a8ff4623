"""One tree of nodes from file, environment and flags, each value with its origin.

Knows: precedence (flag, then environment, then file), `AEGIS_LISTEN__DATA` and
`--set listen.data=…`. Their values are read as YAML, so that all three say the same things.
Must not know: which settings there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sidecar.problems import Position, Problem
from sidecar.yaml_reader import Node, read_yaml

PREFIX = "AEGIS_"
#: Variables of ours that are no settings.
NOT_SETTINGS = frozenset({"AEGIS_CONFIG", "AEGIS_VENV", "AEGIS_TEST_VENV", "AEGIS_DB"})


def merge(
    root: Node, environ: Mapping[str, str], overrides: Sequence[str]
) -> tuple[Node, dict[str, str], list[Problem]]:
    """The merged tree, the origin of each overridden dotted key, and what could not be read."""
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            root = _put(root, key, environ[name], name, problems)
            origins[key] = "environment"
    for text in overrides:
        key, separator, value = text.partition("=")
        source = f"--set {key}"
        if not separator or not key:
            problems.append(Problem(Position(source), "write KEY=VALUE, e.g. limits.queue=100"))
            continue
        root = _put(root, key, value, source, problems)
        origins[key] = "flag"
    return root, origins, problems


def _put(root: Node, key: str, text: str, source: str, problems: list[Problem]) -> Node:
    if text == "":
        problems.append(Problem(Position(source), "the value is empty"))
        return root
    node, found = read_yaml(source, text.encode("utf-8", "surrogateescape"))
    if node is None:
        problems += [replace(problem, position=Position(source)) for problem in found]
        return root
    return _with(root, key.split("."), _moved(node, Position(source)), source)


def _moved(node: Node, position: Position) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _moved(child, position) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_moved(child, position) for child in value]
    return Node(value, position, position, node.is_plain)


def _with(node: Node, path: Sequence[str], value: Node, source: str) -> Node:
    members = dict(node.value) if node.is_mapping else {}
    name = path[0]
    if len(path) == 1:
        members[name] = value
    else:
        below = members.get(name) or Node({}, Position(source), Position(source))
        members[name] = _with(below, path[1:], value, source)
    return Node(members, node.position, node.key_position)
