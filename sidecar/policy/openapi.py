"""OpenAPI 3.0 and 3.1 documents: their operations, as far as routes and arguments go.

Knows: paths, operations, parameters, JSON and form bodies, local `$ref`s (bounded).
Must not know: catalogues, policies; it never fetches anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from sidecar.policy.arguments import ArgumentTypes, Declared
from sidecar.policy.openapi_text import BadDocument, parse_document
from sidecar.policy.routes import Route, parse_route

OPERATIONS_MAX: Final = 10_000
REFERENCES_MAX: Final = 32
#: Schemas looked at for one operation, and for all: a few that refer to one another can stand for
#: any number.
SCHEMAS_MAX: Final = 2000
SCHEMAS_OF_ALL_MAX: Final = 500_000

_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_METHODS = ("get", "head", "options", "post", "put", "patch", "delete", "trace")
_JSON = re.compile(r"application/(json|[a-z0-9.+-]+\+json)\s*(;.*)?", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
_KINDS = {
    "string": "string",
    "integer": "int",
    "number": "number",
    "boolean": "bool",
    "object": "object",
}
_ANY = Declared("any", False, False)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `args` None: its arguments cannot be listed completely."""

    name: str
    route: Route
    args: ArgumentTypes | None


class _OpenEnded(Exception):
    """The arguments of this operation cannot be listed completely."""


def read_openapi(data: bytes) -> tuple[tuple[Operation, ...], list[str]]:
    """The operations of a document, and notes on what was passed over; raises BadDocument."""
    document = _Document(parse_document(data))
    operations: list[Operation] = []
    notes: list[str] = []
    names: set[str] = set()
    for method, path, item, operation in document.operations():
        name, route = _name_and_route(method, path, operation, notes)
        if route is None:
            continue
        if name in names:
            raise BadDocument(f'the operationId "{name}" is here twice')
        names.add(name)
        if len(names) > OPERATIONS_MAX:
            raise BadDocument(f"more than {OPERATIONS_MAX} operations")
        operations.append(Operation(name, route, document.arguments(route, item, operation)))
    return tuple(operations), notes


def _name_and_route(
    method: str, path: str, operation: Mapping[str, Any], notes: list[str]
) -> tuple[str, Route | None]:
    written = f"{method.upper()} {path}"
    try:
        route = parse_route(written)
    except ValueError as error:
        notes.append(f"{written} is passed over: {error}")
        return "", None
    name = operation.get("operationId")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "unknown":
        return written, route
    return name, route


class _Document:
    """A parsed document, with its references resolved when they are read."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._schemas_left = SCHEMAS_MAX
        self._schemas = 0

    def _look(self) -> None:
        """Before each schema; an operation that has too many takes arguments of any kind."""
        self._schemas += 1
        if self._schemas > SCHEMAS_OF_ALL_MAX:
            raise BadDocument(f"its operations have more than {SCHEMAS_OF_ALL_MAX} schemas")
        self._schemas_left -= 1
        if self._schemas_left < 0:
            raise _OpenEnded

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
        """Method, path, path item and operation of each."""
        paths = self._root.get("paths")
        for path, item in (paths if isinstance(paths, dict) else {}).items():
            if not isinstance(path, str) or not path.startswith("/"):
                continue
            found = self._resolve(item)
            for method in _METHODS:
                operation = found.get(method)
                if isinstance(operation, dict):
                    yield method, path, found, operation

    def arguments(
        self, route: Route, item: dict[str, Any], operation: dict[str, Any]
    ) -> ArgumentTypes | None:
        """What the operation takes; None when names beyond the listed ones may come."""
        types: dict[str, Declared] = {
            name: Declared("string", False, False) for name in route.parameters
        }
        self._schemas_left = SCHEMAS_MAX
        try:
            for parameter in self._parameters(item, operation):
                self._add_parameter(parameter, types)
            self._add_body(operation.get("requestBody"), types)
        except _OpenEnded:
            return None
        return ArgumentTypes(types)

    def _parameters(self, item: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
        found: dict[tuple[Any, Any], dict[str, Any]] = {}
        for holder in (item, operation):
            listed = holder.get("parameters")
            for one in listed if isinstance(listed, list) else []:
                parameter = self._resolve(one)
                found[parameter.get("name"), parameter.get("in")] = parameter
        return list(found.values())

    def _add_parameter(self, parameter: dict[str, Any], types: dict[str, Declared]) -> None:
        name, place = parameter.get("name"), parameter.get("in")
        if place not in ("path", "query"):
            return
        if not isinstance(name, str) or not _is_plain_name(name):
            raise _OpenEnded
        if "content" in parameter:
            kind = Declared("string", False, parameter.get("required") is not True)
        else:
            kind = self._type(parameter.get("schema"), parameter.get("required") is True)
            kind = _as_sent(kind, parameter, place)
        if place == "path":
            kind = Declared(kind.kind, kind.is_list, False)
        types[name] = kind

    def _add_body(self, body: Any, types: dict[str, Declared]) -> None:
        if body is None:
            return
        found = self._resolve(body)
        content = found.get("content")
        if not isinstance(content, dict) or not content:
            return
        schemas = []
        for media_type, media in content.items():
            is_known = isinstance(media_type, str) and (
                _JSON.fullmatch(media_type) or media_type == _FORM
            )
            if not is_known or not isinstance(media, dict):
                raise _OpenEnded
            schemas.append(media.get("schema"))
        if any(not self._is_same(one, schemas[0]) for one in schemas[1:]):
            raise _OpenEnded
        is_required = found.get("required") is True
        for name, (schema, must) in self._members(schemas[0], 0).items():
            declared = self._type(schema, must and is_required)
            types[name] = _merged(types.get(name), declared)

    def _is_same(self, one: Any, other: Any) -> bool:
        """Whether two schemas are written alike."""
        self._look()
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(
                self._is_same(one[key], other[key]) for key in one
            )
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self._is_same, one, other))
        return type(one) is type(other) and bool(one == other)

    def _members(self, schema: Any, depth: int) -> dict[str, tuple[Any, bool]]:
        """The members of an object schema and whether each is required."""
        self._look()
        found = self._resolve(schema)
        if depth > REFERENCES_MAX or any(key in found for key in ("oneOf", "anyOf", "not", "if")):
            raise _OpenEnded
        is_object = found.get("type", "object") in ("object", ["object", "null"])
        is_open = found.get("additionalProperties", False) is not False
        if not is_object or is_open or "patternProperties" in found:
            raise _OpenEnded
        properties = found.get("properties", {})
        if not isinstance(properties, dict) or ("properties" not in found and "allOf" not in found):
            raise _OpenEnded
        listed = found.get("required")
        required = (
            {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
        )
        members: dict[str, tuple[Any, bool]] = {}
        parts = found.get("allOf", [])
        if not isinstance(parts, list):
            raise _OpenEnded
        for part in parts:
            members.update(self._members(part, depth + 1))
        members.update({name: (one, False) for name, one in properties.items()})
        if not all(isinstance(name, str) and _is_plain_name(name) for name in members):
            raise _OpenEnded
        return {name: (one, must or name in required) for name, (one, must) in members.items()}

    def _type(self, schema: Any, is_required: bool, depth: int = 0) -> Declared:
        self._look()
        if depth > REFERENCES_MAX:
            return _declared("any", False, is_required, False)
        found = self._resolve(schema) if isinstance(schema, dict) else {}
        is_nullable = found.get("nullable") is True
        other = _beside_null(found)
        if other is not None:
            found, is_nullable = self._resolve(other), True
        kind = found.get("type")
        if isinstance(kind, list):
            is_nullable = is_nullable or "null" in kind
            others = [one for one in kind if one != "null"]
            kind = others[0] if len(others) == 1 else None
        if any(key in found for key in ("oneOf", "anyOf", "allOf", "not")):
            kind = None
        if kind == "array":
            item = self._type(found.get("items"), True, depth + 1)
            return _declared("any" if item.is_list else item.kind, True, is_required, is_nullable)
        known = _KINDS.get(kind, "any") if isinstance(kind, str) else "any"
        return _declared(known, False, is_required, is_nullable)

    def _resolve(self, value: Any) -> dict[str, Any]:
        """The mapping a value is or leads to; an empty one if it leads nowhere."""
        for _ in range(REFERENCES_MAX):
            if not isinstance(value, dict):
                return {}
            reference = value.get("$ref")
            if not isinstance(reference, str):
                return value
            value = self._follow(reference)
        return {}

    def _follow(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise BadDocument(f"the reference {reference[:100]} leads out of the document")
        value: Any = self._root
        for step in reference[2:].split("/"):
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise BadDocument(f"the reference {reference[:100]} leads nowhere")
        return value


def _beside_null(schema: dict[str, Any]) -> Any:
    """The one schema that stands beside null (`anyOf: [T, {type: "null"}]`), if that is all that a
    schema says."""
    if any(key in schema for key in ("type", "allOf", "not")):
        return None
    choices = [schema[key] for key in ("anyOf", "oneOf") if key in schema]
    members = choices[0] if len(choices) == 1 else None
    if not isinstance(members, list) or len(members) != 2:
        return None
    others = [one for one in members if one != {"type": "null"}]
    return others[0] if len(others) == 1 else None


def _is_plain_name(name: str) -> bool:
    return 0 < len(name) <= 128 and name.isprintable()


def _declared(kind: str, is_list: bool, is_required: bool, is_nullable: bool) -> Declared:
    if is_required and is_nullable:
        return _ANY
    return Declared(kind, is_list, not is_required)


def _as_sent(kind: Declared, parameter: Mapping[str, Any], place: str) -> Declared:
    """How a list or an object looks in a path or query: joined text unless it is repeated."""
    default = "form" if place == "query" else "simple"
    style = parameter.get("style", default)
    explodes = parameter.get("explode", style == "form")
    if kind.kind == "object" and not kind.is_list:
        raise _OpenEnded  # its members become names of their own, or stand in brackets
    if kind.is_list and not (place == "query" and style == "form" and explodes):
        return Declared("string", False, kind.is_optional)
    if kind.is_list and kind.kind == "object":
        return Declared("any", True, kind.is_optional)
    return kind


def _merged(earlier: Declared | None, later: Declared) -> Declared:
    """A name that stands in two places must fit both."""
    if earlier is None:
        return later
    is_same = (earlier.kind, earlier.is_list) == (later.kind, later.is_list)
    is_optional = earlier.is_optional and later.is_optional
    return Declared(later.kind, later.is_list, is_optional) if is_same else _ANY
