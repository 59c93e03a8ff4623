"""What a server says a tool gives back, in the words of the other era of MCP. Pure.

Knows: that up to revision 2025-11-25 an `outputSchema` has to be an object's, that from 2026-07-28
on it may be any, and how SDKs tell the latter to clients of the former (SEP-2106): as the only
member, `result`, of an object. One server says both at once, to whom it is asked by.
Must not know: pins, hashes, lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_MEMBERS: Final = {"type", "properties", "required"}
_ROOT: Final = "#"
_WITHIN: Final = "#/properties/result"
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef"})
#: What stands here is an example, and no schema.
_VALUES: Final = frozenset({"const", "enum", "default", "examples"})
#: What stands here has names that mean nothing.
_NAMED: Final = frozenset(
    {
        "properties",
        "patternProperties",
        "$defs",
        "definitions",
        "dependentSchemas",
        "dependencies",
    }
)


def told_otherwise(schema: Any) -> dict[str, Any] | None:
    """The schema as a client of the other era is told it; None where both are told the same."""
    if type(schema) is not dict:
        return None
    try:
        return _wrapped(schema) if schema.get("type") != "object" else _unwrapped(schema)
    except RecursionError:
        return None


def _wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    dialect = schema.get("$schema")
    told = {"$schema": dialect} if type(dialect) is str else {}
    inner = schema if _is_base(schema) else _rewritten(schema, _deeper)
    return {**told, "type": "object", "properties": {"result": inner}, "required": ["result"]}


def _unwrapped(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    if schema.keys() - {"$schema"} != _MEMBERS or schema["required"] != ["result"]:
        return None
    members = schema["properties"]
    inner = members.get("result") if type(members) is dict and len(members) == 1 else None
    if type(inner) is not dict or inner.get("type") == "object":
        return None
    found: dict[str, Any] = inner if _is_base(inner) else _rewritten(inner, _higher)
    return found if _wrapped(found) == schema else None


def _is_base(schema: Mapping[str, Any]) -> bool:
    """Whether references within lead nowhere out of it."""
    own = schema.get("$id")
    return own is not None and not (type(own) is str and own.startswith("#"))


def _rewritten(node: Any, moved: Callable[[str], str], *, has_names: bool = False) -> Any:
    if type(node) is list:
        return [_rewritten(one, moved) for one in node]
    if type(node) is not dict or (not has_names and _is_base(node)):
        return node
    made = {}
    for name, value in node.items():
        if has_names:
            made[name] = _rewritten(value, moved)
        elif name in _REFERENCES and type(value) is str:
            made[name] = moved(value)
        elif name in _VALUES:
            made[name] = value
        else:
            made[name] = _rewritten(value, moved, has_names=name in _NAMED)
    return made


def _deeper(reference: str) -> str:
    if reference == _ROOT or reference.startswith("#/"):
        return _WITHIN + reference[1:]
    return reference


def _higher(reference: str) -> str:
    if reference == _WITHIN or reference.startswith(_WITHIN + "/"):
        return _ROOT + reference[len(_WITHIN) :]
    return reference
