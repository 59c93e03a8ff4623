"""Plain data with CEL in it as the YAML a user would write: one rule a line.

Knows: YAML's quoted form. Must not know: what the keys mean.
"""

from __future__ import annotations

import json
import re
from typing import Any

from twin_tree import Cel
from twin_world import World

_PLAIN = re.compile(r"[a-zA-Z][a-zA-Z0-9_/-]*")
_WORDS = ("true", "false", "null")


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Cel):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def document(data: dict[str, Any]) -> str:
    """A file: a key a line, a rule a line."""
    lines = []
    for key, value in data.items():
        if key == "rules" and value:
            lines += ["rules:", *(f"  - {flow(rule)}" for rule in value)]
        else:
            lines.append(f"{key}: {flow(value)}")
    return "\n".join(lines) + "\n"


def rule_at(data: dict[str, Any], line: int) -> int | None:
    """The number of the rule that `document` writes on a line; None if there is none."""
    number = line - list(data).index("rules") - 2
    return number if 0 <= number < len(data["rules"]) else None


def file_name(policy: dict[str, Any]) -> str:
    """The file of a policy."""
    return f"{policy['policy']}.yaml"


def files(world: World) -> dict[str, str]:
    """The files of a set by name."""
    found = {f"tools-{one['catalogue']}.yaml": document(one) for one in world.catalogues}
    return found | {file_name(one): document(one) for one in world.policies}
