"""Catalogue files: YAML nodes, and the OpenAPI documents they name, become drafts of tools.

Knows: every key of a catalogue, and which forms its values have.
Must not know: rules, defaults; how a document is found (`read_file` is given).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.model import RiskLevel, TrustLevel
from sidecar.policy.arguments import ArgumentTypes, declared
from sidecar.policy.catalogue import ToolDefaults
from sidecar.policy.fields import (
    Field,
    Problems,
    as_node,
    boolean,
    did_you_mean,
    list_of,
    name,
    one_of,
    read_fields,
    text,
)
from sidecar.policy.matchers import UNKNOWN, Glob
from sidecar.policy.openapi import Operation, read_openapi
from sidecar.policy.openapi_text import BadDocument
from sidecar.policy.routes import Route, parse_route
from sidecar.problems import Position
from sidecar.yaml_reader import Node

#: Reads a file that a source names, by the source's name and the relative path; raises OSError.
ReadFile = Callable[[str, str], bytes]

_OPERATION = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_METHOD = re.compile(r"mcp:[A-Za-z0-9_./$-]{1,128}")
_GLOB = re.compile(r"[A-Za-z0-9_./:$*-]{1,128}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_ARGUMENT_LENGTH_MAX = 128
#: A parameter as other routers write it: `:id`, `<id>`, `<int:id>`.
_PARAMETER_ELSEWHERE = re.compile(r"(?::|<(?:[a-z]+:)?)([A-Za-z_]\w*)>?")


@dataclass(frozen=True, slots=True)
class ToolDraft:
    """One exact entry as its file has it; None where the file leaves it open."""

    operation: str
    position: Position
    route: Route | None
    mutates: bool | None
    risk: RiskLevel | None
    labels: tuple[str, ...] | None
    returns: TrustLevel | None
    args: ArgumentTypes | None
    bind_headers: tuple[str, ...]
    websocket: bool = False


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """A catalogue file, read; its OpenAPI document too."""

    upstream: str
    position: Position
    drafts: tuple[ToolDraft, ...]
    defaults: tuple[ToolDefaults, ...]
    operations: tuple[Operation, ...]
    document: bytes
    plain: Mapping[str, Any]

    @property
    def has_routes(self) -> bool:
        """Whether it describes a REST upstream."""
        return bool(self.operations) or any(draft.route for draft in self.drafts)


def read_catalogue(node: Node, problems: Problems, read_file: ReadFile) -> CatalogueFile | None:
    """A file that begins with `catalogue:`; problems are noted. None if what is left of it would
    only lead to further ones: no usable name, or an OpenAPI document that cannot be read."""
    before = problems.error_count
    values = read_fields(node, "a catalogue", _FILE_FIELDS, problems)
    drafts: list[ToolDraft] = []
    defaults: list[ToolDefaults] = []
    tools: Node | None = values.get("tools")
    if tools is not None and not tools.is_mapping:
        problems.error(tools.position, f"tools must be a mapping, not {tools.kind}")
    elif tools is not None:
        for operation, member in tools.value.items():
            if "*" in operation:
                _read_defaults(operation, member, defaults, problems)
            else:
                read_tool(operation, member, drafts, problems)
    elif "openapi" not in values and not problems.error_count > before:
        problems.error(node.position, 'a catalogue needs "tools" or "openapi"')
    found = _read_document(values.get("openapi"), problems, read_file)
    if found is None or "catalogue" not in values:
        return None
    operations, document = found
    for draft in drafts:
        own = draft.operation.removeprefix(f"{values['catalogue']}/")
        if draft.route is not None and own != draft.operation:
            problems.warning(
                draft.position,
                f'rules would call this tool "{values["catalogue"]}/{draft.operation}"',
                f"in a catalogue a tool stands without its upstream: {own}",
            )
    return CatalogueFile(
        values["catalogue"],
        node.value["catalogue"].position,
        tuple(drafts),
        tuple(defaults),
        operations,
        document,
        node.plain(),
    )


def _read_document(
    node: Node | None, problems: Problems, read_file: ReadFile
) -> tuple[tuple[Operation, ...], bytes] | None:
    """The operations and the bytes of the document a catalogue names; None if unusable."""
    if node is None:
        return (), b""
    path = text(node, problems)
    if path is None:
        return None
    if "://" in path:
        problems.error(node.position, "openapi names a file, not a URL", "save it beside this file")
        return None
    try:
        data = read_file(node.position.source, path)
        operations, notes = read_openapi(data)
    except OSError as error:
        problems.error(node.position, f"{path} cannot be read: {error.strerror or error}")
        return None
    except BadDocument as error:
        problems.error(node.position, f"{path}: {error}")
        return None
    for note in notes:
        problems.warning(node.position, f"{path}: {note}")
    return operations, data


def _route(node: Node, problems: Problems) -> Route | None:
    if node.is_mapping or node.is_list:
        problems.error(node.position, f"a route is a text, METHOD /path/{{name}}, not {node.kind}")
        return None
    try:
        route = parse_route(node.value)
    except ValueError as error:
        problems.error(node.position, str(error), _route_hint(node.value))
        return None
    for part in map(_PARAMETER_ELSEWHERE.fullmatch, route.text.split("/")):
        if part is not None:
            problems.warning(
                node.position,
                f'"{part[0]}" stands for itself in a route: no other path has it',
                f"a part that may be anything is written {{{part[1]}}}",
            )
    return route


def _route_hint(written: object) -> str:
    if not isinstance(written, str):
        return ""
    if "?" in written:
        return "a route ends before `?`: what stands in the query is an argument like all others"
    if "://" in written:
        return "the host is the upstream's `url`: write the path below it"
    return ""


def _header(node: Node, problems: Problems) -> str | None:
    value = text(node, problems)
    if value is not None and not _HEADER.fullmatch(value):
        problems.error(node.position, f'"{value}" is not a header name')
        return None
    return None if value is None else value.lower()


def _websocket(node: Node, problems: Problems) -> bool | None:
    value = boolean(node, problems)
    if value:
        problems.warning(
            node.position,
            "the frames of a WebSocket are not judged: only its handshake is",
            "what is sent through it is counted and limited; the tool mutates unless it says not",
        )
    return value


def _arguments(node: Node, problems: Problems) -> ArgumentTypes | None:
    if not node.is_mapping:
        problems.error(
            node.position,
            f"args must be a mapping of name to type, not {node.kind}",
            "leave args out to take any, or write {} for none",
        )
        return None
    types = {}
    for argument, member in node.value.items():
        place = member.key_position or member.position
        if not 0 < len(argument) <= _ARGUMENT_LENGTH_MAX or not argument.isprintable():
            problems.error(place, "an argument's name is 1 to 128 printable characters")
            continue
        try:
            types[argument] = declared(_type_text(member))
        except ValueError as error:
            problems.error(member.position, str(error), _type_hint(member))
    return ArgumentTypes(types) if len(types) == len(node.value) else None


def _type_text(node: Node) -> object:
    """`[string]` without quotes is a YAML list of one; it means the same."""
    if node.is_list and len(node.value) == 1 and isinstance(node.value[0].value, str):
        return f"[{node.value[0].value}]"
    return node.plain() if not (node.is_mapping or node.is_list) else node


def _type_hint(node: Node) -> str:
    if not isinstance(node.value, str):
        return ""
    core = node.value.strip("[]?")
    return did_you_mean(core, ("string", "int", "number", "bool", "object", "any"))


_LABELS = Field(list_of(name, "leave the key out for: none"))
_FACT_FIELDS = {
    "mutates": Field(boolean),
    "risk": Field(one_of(RiskLevel)),
    "labels": _LABELS,
    "returns": Field(one_of(TrustLevel)),
}
_TOOL_FIELDS = {
    "route": Field(_route),
    **_FACT_FIELDS,
    # None at all, whatever globs say; one of these that gives none only says nothing.
    "labels": Field(list_of(name, may_be_empty=True)),
    "args": Field(_arguments),
    "bind_headers": Field(list_of(_header)),
    "websocket": Field(_websocket),
}
_FILE_FIELDS = {
    "catalogue": Field(name, is_required=True),
    "description": Field(text),
    "openapi": Field(as_node),
    "tools": Field(as_node),
}


def _read_defaults(
    operation: str, node: Node, defaults: list[ToolDefaults], problems: Problems
) -> None:
    place = node.key_position or node.position
    if not _GLOB.fullmatch(operation):
        hint = "letters, digits and _ . - / :, and * for any characters"
        problems.error(place, f'"{operation}" is no glob over operations', hint)
        return
    for key in ("route", "args", "bind_headers", "websocket"):
        if node.is_mapping and key in node.value:
            problems.error(
                node.value[key].key_position or place,
                f"a glob declares no tool: {key} has no place",
            )
            return
    values = read_fields(node, "a glob of tools", _FACT_FIELDS, problems)
    defaults.append(
        ToolDefaults(
            Glob(operation),
            values.get("mutates"),
            values.get("risk"),
            values.get("labels", ()),
            values.get("returns"),
        )
    )


def read_tool(operation: str, node: Node, drafts: list[ToolDraft], problems: Problems) -> None:
    """Adds one exact entry to `drafts`, unless it has a problem, which is noted."""
    place = node.key_position or node.position
    before = problems.error_count
    if operation == UNKNOWN:
        problems.error(place, f'"{UNKNOWN}" is what every undeclared tool is called')
    elif not _OPERATION.fullmatch(operation) and not _METHOD.fullmatch(operation):
        problems.error(
            place,
            f'"{operation}" is not an operation',
            "letters, digits and _ . - / (at most 128), or mcp:METHOD",
        )
    if isinstance(node.value, str):
        values: dict[str, Any] = {"route": _route(node, problems)}
    else:
        values = read_fields(node, "a tool", _TOOL_FIELDS, problems)
    if problems.error_count > before:
        return
    drafts.append(
        ToolDraft(
            operation,
            place,
            values.get("route"),
            values.get("mutates"),
            values.get("risk"),
            values.get("labels"),
            values.get("returns"),
            values.get("args"),
            values.get("bind_headers", ()),
            bool(values.get("websocket")),
        )
    )
