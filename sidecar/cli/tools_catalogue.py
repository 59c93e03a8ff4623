"""Writes what an MCP server says of its tools as a first catalogue, for a person to review.

Knows: the catalogue's YAML form and the simple part of JSON Schema. A server's word can only make
an entry stricter: hints that would loosen it stand there as comments.
Must not know: how the tools were listed, files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sidecar.cli.catalogue_text import Draft, comment, key, value

_OPERATION = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_ARGUMENT = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")
_RESERVED = frozenset({"unknown"})

_TYPES = {
    "string": "string",
    "integer": "int",
    "number": "number",
    "boolean": "bool",
    "object": "object",
    "array": "[any]",
}
#: Keywords beside `properties` that let a schema take names it does not list.
_OPEN_KEYWORDS = ("$ref", "anyOf", "oneOf", "allOf", "if", "not", "patternProperties")


def render_catalogue(
    upstream: str, tools: Sequence[dict[str, Any]], *, server: str, revision: str
) -> Draft:
    """The catalogue of `upstream` in YAML, one entry per tool, in the order of their names."""
    draft = Draft("", 0)
    lines = [
        f"# A first catalogue of {comment(server)} (MCP {comment(revision)}), for review.",
        "# What a server says of itself is not trusted: each tool is taken to change state until",
        "# you say otherwise (`mutates: false`), and what it gives back to be of unknown trust",
        "# (`returns: trusted_internal_unsigned`, or `untrusted_external` where strangers write).",
        f"catalogue: {upstream}",
    ]
    entries = _by_name(tools, draft)
    lines.append("tools:" if entries else "tools: {}")
    for name in sorted(entries):
        lines += _entry(name, entries[name])
    draft.tool_count = len(entries)
    draft.text = "\n".join(lines) + "\n"
    return draft


def _by_name(tools: Sequence[dict[str, Any]], draft: Draft) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for tool in tools:
        name = tool.get("name")
        if not isinstance(name, str) or not _OPERATION.fullmatch(name) or name in _RESERVED:
            draft.notes.append(f"a tool cannot be declared under its name: {comment(repr(name))}")
        elif name in entries:
            draft.notes.append(f"{name} is listed twice; the first one was taken")
        else:
            entries[name] = tool
    return entries


def _entry(name: str, tool: dict[str, Any]) -> list[str]:
    lines = []
    description = tool.get("description") or tool.get("title")
    if isinstance(description, str) and description.strip():
        lines.append(f"  # {comment(description)}")
    lines.append(f"  {key(name)}:")
    lines += _hints(tool.get("annotations"))
    lines += _arguments(tool.get("inputSchema"))
    return lines


def _hints(annotations: Any) -> list[str]:
    hints = annotations if isinstance(annotations, dict) else {}
    if hints.get("readOnlyHint") is True:
        lines = [
            "    mutates: true # the server says read-only; set mutates: false if you agree",
        ]
    else:
        lines = ["    mutates: true"]
    if hints.get("destructiveHint") is True and hints.get("readOnlyHint") is not True:
        lines.append("    risk: high # the server says destructive")
    if hints.get("openWorldHint") is True:
        lines.append("    # the server says it reaches the open world: labels: [sends-external]?")
    return lines


def _arguments(schema: Any) -> list[str]:
    reason = _why_unchecked(schema)
    if reason:
        return [f"    # args are unchecked: {reason}"]
    properties: dict[str, Any] = schema.get("properties") or {}
    if not properties:
        return ["    args: {}"]
    listed = schema.get("required")
    required = (
        {item for item in listed if isinstance(item, str)} if isinstance(listed, list) else set()
    )
    lines = ["    args:"]
    for name, member in properties.items():
        lines.append(f"      {key(name)}: {value(_declaration(member, name in required))}")
    return lines


def _why_unchecked(schema: Any) -> str:
    """Why the arguments cannot be listed completely; "" if they can."""
    if not isinstance(schema, dict):
        return "the server gives no schema"
    properties = schema.get("properties", {})
    if schema.get("type", "object") != "object" or not isinstance(properties, dict):
        return "the schema is no plain object"
    if any(keyword in schema for keyword in _OPEN_KEYWORDS):
        return "the schema is more than a list of members"
    if schema.get("additionalProperties", False) is not False:
        return "the schema takes members it does not list"
    if not all(_ARGUMENT.fullmatch(name) for name in properties):
        return "a member's name cannot be written here"
    return ""


def _declaration(schema: Any, is_required: bool) -> str:
    """`?` says that an argument may be left out or null; one that must be there and may be null
    has no type of its own."""
    present = _without_null(schema)
    if not is_required:
        return f"{_type(present)}?"
    return _type(schema) if present is schema else "any"


def _without_null(schema: Any) -> Any:
    """A schema that also takes null (`type: [T, "null"]`, or T beside null), without it; any other
    as it is."""
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if isinstance(kind, list) and len(kind) == 2 and "null" in kind:
        return {**schema, "type": next((one for one in kind if one != "null"), None)}
    for keyword in ("anyOf", "oneOf"):
        members = schema.get(keyword)
        if isinstance(members, list) and len(members) == 2 and {"type": "null"} in members:
            left = [one for one in members if one != {"type": "null"}]
            beside = {key for key in schema if key in _OPEN_KEYWORDS or key == "type"} - {keyword}
            if len(left) == 1 and not beside:
                return left[0]
    return schema


def _type(schema: Any) -> str:
    if not isinstance(schema, dict) or any(keyword in schema for keyword in _OPEN_KEYWORDS):
        return "any"
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        return "any"
    if kind == "array":
        items = _type(schema.get("items"))
        return f"[{'any' if items.startswith('[') else items}]"
    return _TYPES[kind]
