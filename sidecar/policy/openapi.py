"""OpenAPI 3.0 and 3.1 documents: their operations, as far as routes and arguments go.

Knows: paths, operations, parameters, JSON, form, multipart and binary bodies.
Must not know: catalogues, policies; it never fetches anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.policy.arguments import ArgumentTypes, Declared
from sidecar.policy.openapi_schemas import ANY, OpenEnded, Schemas, is_plain_name
from sidecar.policy.openapi_text import BadDocument, parse_document
from sidecar.policy.routes import Route, parse_route

OPERATIONS_MAX: Final = 10_000

_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
#: Methods of a path's operations, as they stand in a document.
OPERATIONS: Final = ("get", "head", "options", "post", "put", "patch", "delete", "trace")
_JSON = re.compile(
    r"application/(json|x-amz-json-1\.[01]|[a-z0-9.+-]+\+json)\s*(;.*)?", re.IGNORECASE
)
#: One document a line: a list, whatever its schema says of a line.
_LINES_OF_JSON = re.compile(
    r"application/((x-)?ndjson|jsonl(ines)?|[a-z0-9.+-]+\+(x-)?ndjson)\s*(;.*)?", re.IGNORECASE
)
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_BINARY = re.compile(
    r"(application/(octet-stream|zip|gzip|pdf)|(image|audio|video)/[a-z0-9.+-]+)\s*(;.*)?",
    re.IGNORECASE,
)
#: What a body that is no object becomes, and one that is known by its digest (LANGUAGE.md 2.5).
_WHOLE_BODY = "body"
_BINARY_BODY = {"body_sha256": "string", "body_size": "int"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `args` None: its arguments cannot be listed completely."""

    name: str
    route: Route
    args: ArgumentTypes | None


def read_openapi(data: bytes) -> tuple[tuple[Operation, ...], list[str]]:
    """The operations of a document, and notes on what was passed over; raises BadDocument."""
    document = Document(parse_document(data))
    operations: list[Operation] = []
    notes: list[str] = []
    names: set[str] = set()
    for path, written in document.paths():
        item = document.resolve(written)
        for method, operation in operations_of(item):
            name, route = _name_and_route(method, path, operation, notes)
            if route is None:
                continue
            if name in names:
                raise BadDocument(f'the operationId "{name}" is here twice')
            names.add(name)
            if len(names) > OPERATIONS_MAX:
                raise BadDocument(f"more than {OPERATIONS_MAX} operations")
            args, _ = document.arguments(route, item, operation)
            operations.append(Operation(name, route, args))
    return tuple(operations), notes


def plain_operation_id(operation: Mapping[str, Any]) -> str | None:
    """The operationId, if an operation of a catalogue may be called so."""
    name = operation.get("operationId")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "unknown":
        return None
    return name


def operations_of(item: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Method, in lower case, and operation of each that a path item has."""
    for method in OPERATIONS:
        operation = item.get(method)
        if isinstance(operation, dict):
            yield method, operation


def _name_and_route(
    method: str, path: str, operation: Mapping[str, Any], notes: list[str]
) -> tuple[str, Route | None]:
    written = f"{method.upper()} {path}"
    try:
        route = parse_route(written)
    except ValueError as error:
        notes.append(f"{written} is passed over: {error}")
        return "", None
    return plain_operation_id(operation) or written, route


class Document:
    """A parsed document."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self._schemas = Schemas(root)
        self.resolve = self._schemas.resolve

    def paths(self) -> Iterator[tuple[str, Any]]:
        """Each path with its item as written: a mapping, or a reference to one."""
        paths = self.root.get("paths")
        for path, item in (paths if isinstance(paths, dict) else {}).items():
            if isinstance(path, str) and path.startswith("/"):
                yield path, item

    def arguments(
        self, route: Route, item: dict[str, Any], operation: dict[str, Any]
    ) -> tuple[ArgumentTypes | None, str]:
        """What the operation takes; None, and why, when names beyond the listed ones may come.

        Raises BadDocument.
        """
        types: dict[str, Declared] = {
            name: Declared("string", False, False) for name in route.parameters
        }
        self._schemas.begin_operation()
        try:
            for parameter in self.parameters(item, operation):
                self._add_parameter(parameter, types)
            self._add_body(operation.get("requestBody"), types)
        except OpenEnded as reason:
            return None, str(reason)
        return ArgumentTypes(types), ""

    def parameters(self, item: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
        """The parameters of an operation, its own in place of those of its path."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for holder in (item, operation):
            listed = holder.get("parameters")
            for one in listed if isinstance(listed, list) else []:
                parameter = self.resolve(one)
                found[str(parameter.get("name")), str(parameter.get("in"))] = parameter
        return list(found.values())

    def _add_parameter(self, parameter: dict[str, Any], types: dict[str, Declared]) -> None:
        name, place = parameter.get("name"), parameter.get("in")
        if place not in ("path", "query"):
            return
        if not isinstance(name, str) or not is_plain_name(name):
            raise OpenEnded("a parameter's name cannot be declared")
        if "content" in parameter:
            kind = Declared("string", False, parameter.get("required") is not True)
        else:
            is_required = parameter.get("required") is True
            kind = self._schemas.type_of(parameter.get("schema"), is_required)
            kind = _as_sent(kind, parameter, place)
        if place == "path":
            kind = Declared(kind.kind, kind.is_list, False)
        types[name] = kind

    def _add_body(self, body: Any, types: dict[str, Declared]) -> None:
        if body is None:
            return
        found = self.resolve(body)
        content = found.get("content")
        if not isinstance(content, dict) or not content:
            return
        bodies = [
            self._body(media_type, media, found.get("required") is True)
            for media_type, media in content.items()
        ]
        for name, declared in _any_of(bodies).items():
            types[name] = _merged(types.get(name), declared)

    def _body(self, media_type: Any, media: Any, is_required: bool) -> dict[str, Declared]:
        """The arguments that a body of one media type gives."""
        name = media_type if isinstance(media_type, str) else ""
        if not isinstance(media, dict):
            raise OpenEnded("its body is malformed")
        if _BINARY.fullmatch(name):
            return {
                one: Declared(kind, False, not is_required) for one, kind in _BINARY_BODY.items()
            }
        if _LINES_OF_JSON.fullmatch(name):
            return {_WHOLE_BODY: Declared("any", True, not is_required)}
        if not _JSON.fullmatch(name) and name not in (_FORM, _MULTIPART):
            said = "refused" if "json" in name.lower() else "not read"
            raise OpenEnded(f"a body of {name or 'no'} type is {said}")
        schema = media.get("schema")
        if _JSON.fullmatch(name):
            whole = self._schemas.type_of(schema, is_required)
            if whole.is_list or whole.kind in ("string", "int", "number", "bool"):
                return {_WHOLE_BODY: whole}
        if name == _FORM:
            _require_plain_names(media.get("encoding"))
        return {
            member: self._member(one, must and is_required, name)
            for member, (one, must) in self._schemas.members(schema).items()
        }

    def _member(self, schema: Any, is_required: bool, media_type: str) -> Declared:
        if media_type == _MULTIPART:
            found = self.resolve(schema)
            item = self.resolve(found.get("items")) if found.get("type") == "array" else found
            if _is_file(item):
                return Declared("object", item is not found, not is_required)
        declared = self._schemas.type_of(schema, is_required)
        if media_type == _MULTIPART and declared.kind == "object":
            # JSON in a part of its own: text to us, or a file, as its sender words it.
            return Declared("any", declared.is_list, declared.is_optional)
        if media_type == _FORM and declared.kind == "object":
            raise OpenEnded("a form's object becomes names of its own")
        return declared


def _require_plain_names(encoding: Any) -> None:
    said = encoding.values() if isinstance(encoding, dict) else ()
    if any(isinstance(one, dict) and one.get("style") == "deepObject" for one in said):
        raise OpenEnded("a form's list or object becomes names of its own")


def _is_file(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") in ("binary", "byte") or "contentMediaType" in schema


def _any_of(bodies: list[dict[str, Declared]]) -> dict[str, Declared]:
    """What one of several bodies may give: required is what all of them require."""
    found: dict[str, Declared] = {}
    for body in bodies:
        for name, declared in body.items():
            is_optional = any(name not in one or one[name].is_optional for one in bodies)
            kind, is_list = declared.kind, declared.is_list
            if any((one[name].kind, one[name].is_list) != (kind, is_list)
                   for one in bodies if name in one):  # fmt: skip
                kind, is_list = "any", False
            found[name] = Declared(kind, is_list, is_optional)
    return found


def _as_sent(kind: Declared, parameter: Mapping[str, Any], place: str) -> Declared:
    """How a list or an object looks in a path or query: joined text unless it is repeated."""
    default = "form" if place == "query" else "simple"
    style = parameter.get("style", default)
    explodes = parameter.get("explode", style == "form")
    if kind.kind == "object" and not kind.is_list:
        raise OpenEnded("an object in the query becomes names of its own")
    if kind.is_list and not (place == "query" and style == "form" and explodes):
        if style == "deepObject":
            raise OpenEnded("a list in the query becomes names of its own")
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
    return Declared(later.kind, later.is_list, is_optional) if is_same else ANY
