"""A condition as a tree of tuples, and the CEL text it stands for.

A tree is `(kind, part, …)`; parts are trees or plain values, as the table below says. The product
gets the text, the twin evaluates the tree: neither sees the other's form.

Knows: how CEL is written. Must not know: what any of it means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Tree = tuple[Any, ...]

INFIX = {
    "and": "&&", "or": "||", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "in": "in", "add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%",
}  # fmt: skip
#: Written as a method of the first part.
METHODS = ("startsWith", "endsWith", "contains", "lowerAscii")
#: Written as a function of its parts.
FUNCTIONS = ("size", "glob", "under", "host", "inDomain")
#: Written as a method with a loop variable: (kind, range, variable, body).
LOOPS = ("exists", "all", "filter", "map")


@dataclass(frozen=True)
class Cel:
    """A tree where a policy file has CEL."""

    tree: Tree

    def __str__(self) -> str:
        return written(self.tree)


def written(tree: Tree) -> str:
    """The CEL text of a tree; operators stand in parentheses, so that nothing hangs on ranks."""
    kind, *parts = tree
    if kind in INFIX:
        return f"({written(parts[0])} {INFIX[kind]} {written(parts[1])})"
    if kind in METHODS:
        return f"{written(parts[0])}.{kind}({', '.join(written(part) for part in parts[1:])})"
    if kind in FUNCTIONS:
        return f"{kind}({', '.join(written(part) for part in parts)})"
    if kind in LOOPS:
        return f"{written(parts[0])}.{kind}({parts[1]}, {written(parts[2])})"
    return _WRITTEN[kind](*parts)


def literal(value: Any) -> str:
    """A plain value as CEL writes it."""
    if isinstance(value, list):
        return f"[{', '.join(literal(one) for one in value)}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def _optional(of: Tree, path: str, other: Tree) -> str:
    return f"{written(of)}.?{path.replace('.', '.?')}.orValue({written(other)})"


_WRITTEN: dict[str, Callable[..., str]] = {
    "literal": literal,
    "list": lambda *ones: f"[{', '.join(written(one) for one in ones)}]",
    "name": str,  # a name of ours, dotted: `tool.risk`
    "constant": lambda name: f"constants.{name}",
    "variable": lambda name: f"variables.{name}",
    "loop": str,  # the variable of a loop
    "level": lambda ranks, name: f"{ranks}.{name}",
    "field": lambda of, name: f"{written(of)}.{name}",
    "item": lambda of, key: f"{written(of)}[{written(key)}]",
    "has": lambda of, name: f"has({written(of)}.{name})",
    "optional": _optional,
    "present": lambda of, name: f"{written(of)}.?{name}.hasValue()",
    "not": lambda of: f"!({written(of)})",
    "if": lambda test, one, other: f"({written(test)} ? {written(one)} : {written(other)})",
    "matches": lambda of, pattern: f"{written(of)}.matches({literal(pattern)})",
    "timestamp": lambda text: f"timestamp({literal(text)})",
    "duration": lambda text: f"duration({literal(text)})",
    "hours": lambda of, zone: f"{written(of)}.getHours({literal(zone)})",
    "weekday": lambda of, zone: f"{written(of)}.getDayOfWeek({literal(zone)})",
    "counted": lambda tools, text: f"run.count({literal(tools)}, duration({literal(text)}))",
    "in_network": lambda cidr, of: f"cidr({literal(cidr)}).containsIP({written(of)})",
}

KINDS = (*INFIX, *METHODS, *FUNCTIONS, *LOOPS, *_WRITTEN)


def nodes(tree: Tree) -> Iterator[Tree]:
    """The tree and every tree in it."""
    yield tree
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from nodes(part)


def arguments(tree: Tree) -> set[str]:
    """The arguments of the call that a tree names."""
    found = set()
    for node in nodes(tree):
        if len(node) > 2 and node[1] == ("name", "args"):
            if node[0] in ("field", "has", "present"):
                found.add(node[2])
            elif node[0] == "optional":
                found.add(node[2].partition(".")[0])
            elif node[0] == "item":
                found.add(node[2][1])
        elif node[0] == "in" and node[2] == ("name", "args"):
            found.add(node[1][1])
    return found
