"""What an OpenAPI document says of its operations, as far as a first catalogue goes.

Knows: which operations can be declared and under which names, what of them cannot be said in a
catalogue. The document is its author's word: what it says of itself may only make stricter.
Must not know: YAML, files, which words are dangerous (tools_openapi_guess).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.cli.tools_openapi_guess import guess
from sidecar.policy.arguments import ArgumentTypes
from sidecar.policy.openapi import (
    OPERATIONS,
    OPERATIONS_MAX,
    Document,
    operations_of,
    plain_operation_id,
)
from sidecar.policy.openapi_schemas import BadReference
from sidecar.policy.openapi_text import BadDocument
from sidecar.policy.routes import Route, RouteTable, parse_route

NAME_LENGTH_MAX: Final = 128
#: Members of one answer's schema that are looked at for secrets.
_ANSWER_MEMBERS_MAX: Final = 200
#: Of a server's URL; what is longer is no URL of an upstream.
_URL_LENGTH_MAX: Final = 1000

#: What may be meant as a method: other members of a path have longer names, or are no mappings.
_METHOD = re.compile(r"[A-Za-z]{3,9}")
_VARIABLE = re.compile(r"\{([^{}]{1,128})\}")
#: Methods without a body, or with one that most servers pass over.
_BODILESS = frozenset({"get", "head", "options"})
#: How GitHub marks a value that holds slashes.
_MULTI_SEGMENT = "x-multi-segment"
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_./-]+")


@dataclass(frozen=True, slots=True)
class Described:
    """One operation that can be declared. `unsaid` is what a catalogue cannot say of it, `hints`
    what a reviewer should know besides; `args` None: see `unsaid`."""

    name: str
    route: Route
    args: ArgumentTypes | None
    mutates: bool
    risk: str
    labels: tuple[str, ...]
    description: str
    unsaid: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(slots=True)
class Survey:
    """The operations of a document in its order; `left_out` says which are not among them."""

    title: str
    version: str
    servers: tuple[str, ...]
    described: list[Described] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def survey(document: Document) -> Survey:
    """Looks at every operation; raises BadDocument for one that has too many."""
    raw_info = document.root.get("info")
    info: Mapping[str, Any] = raw_info if isinstance(raw_info, dict) else {}
    found = Survey(_text(info.get("title")), _text(info.get("version")), _servers(document.root))
    surveyor = _Surveyor(document, found)
    found.left_out += _no_paths(document)
    for path, written in document.paths():
        try:
            item = document.resolve(written)
        except BadReference as reason:
            found.left_out.append(f"{path}: {reason}")
            continue
        found.left_out += _no_operations(path, item)
        for method, operation in operations_of(item):
            surveyor.look_at(method, path, item, operation)
    return found


def _no_paths(document: Document) -> list[str]:
    """What stands among the paths and begins with no slash: no operation of it is one."""
    paths = document.root.get("paths")
    named = [one for one in paths if isinstance(one, str)] if isinstance(paths, dict) else []
    return [
        f"{one}: a path begins with a slash"
        for one in named
        if not one.startswith(("/", "x-"))
    ]  # fmt: skip


def _no_operations(path: str, item: Mapping[str, Any]) -> list[str]:
    """Operations of methods that are not read, or not written as the specification wants them."""
    return [
        f"{name.upper()} {path}: {_of_no_method(name)}"
        for name, operation in item.items()
        if isinstance(name, str) and isinstance(operation, dict) and _METHOD.fullmatch(name)
        and name not in OPERATIONS
    ]  # fmt: skip


def _of_no_method(name: str) -> str:
    if name.lower() in OPERATIONS:
        return f"{name} is written in lower case in a document"
    return "not a method of OpenAPI 3.0 or 3.1"


class _Surveyor:
    """Keeps what must be unique in one catalogue: names and routes."""

    def __init__(self, document: Document, found: Survey) -> None:
        self._document = document
        self._found = found
        self._names: set[str] = set()
        self._routes: RouteTable[str] = RouteTable()

    def look_at(
        self, method: str, path: str, item: dict[str, Any], operation: dict[str, Any]
    ) -> None:
        path, holds_slashes = self._template(path, item, operation)
        written = f"{method.upper()} {path}"
        if len(self._names) + len(self._found.left_out) >= OPERATIONS_MAX:
            raise BadDocument(f"more than {OPERATIONS_MAX} operations")
        try:
            route = parse_route(written)
            if not written.isprintable():
                raise ValueError("its path holds control characters")
            if method == "trace":
                raise ValueError("TRACE is not served")
        except ValueError as error:
            self._found.left_out.append(f"{written}: {error}")
            return
        clash = self._routes.add(route, written)
        if clash is not None:
            self._found.left_out.append(f"{written} and {clash} are equally specific")
            return
        name, hints = self._name(method, path, operation)
        args, unsaid = self._arguments(route, item, operation)
        if method in _BODILESS and "requestBody" in operation:
            unsaid.append(f"arguments in its body are refused: {method.upper()} has them elsewhere")
        mutates, risk, hint = guess(method, name, path)
        hints += [hint] if hint else []
        hints += ["its last value takes the rest of the path, by the document"] * holds_slashes
        if operation.get("deprecated") is True:
            hints.append("deprecated")
        self._found.described.append(
            Described(
                name=name,
                route=route,
                args=args,
                mutates=mutates,
                risk=risk,
                labels=("reads-secret",) if self._gives_a_secret(operation) else (),
                description=_text(operation.get("summary")) or _text(operation.get("description")),
                unsaid=tuple(unsaid),
                hints=tuple(hints),
            )
        )

    def _template(
        self, path: str, item: dict[str, Any], operation: dict[str, Any]
    ) -> tuple[str, bool]:
        """The path with `{name...}` at its end, where the document says that `name` holds slashes;
        and whether it does."""
        before, _, last = path.rpartition("/")
        if not (last.startswith("{") and last.endswith("}")):
            return path, False
        try:
            parameters = self._document.parameters(item, operation)
        except BadReference:
            return path, False
        name = last[1:-1]
        if not any(
            (one.get("name"), one.get("in"), one.get(_MULTI_SEGMENT)) == (name, "path", True)
            for one in parameters
        ):
            return path, False
        return f"{before}/{{{name}...}}", True

    def _name(self, method: str, path: str, operation: dict[str, Any]) -> tuple[str, list[str]]:
        """A name that no other operation has, and how it differs from the document's."""
        stated = operation.get("operationId")
        plain = plain_operation_id(operation)
        fitted = plain or _fitted(stated) or _fitted(f"{method.upper()}{path}") or method.upper()
        name = fitted
        count = 1
        while name in self._names or name == "unknown":
            count += 1
            name = f"{fitted[: NAME_LENGTH_MAX - 6]}-{count}"
        self._names.add(name)
        if isinstance(stated, str) and stated != name:
            return name, [f"its operationId is {stated}"]
        return name, []

    def _arguments(
        self, route: Route, item: dict[str, Any], operation: dict[str, Any]
    ) -> tuple[ArgumentTypes | None, list[str]]:
        try:
            args, why = self._document.arguments(route, item, operation)
            others = sorted(
                {
                    f"{_text(one.get('in'))} {_text(one.get('name'))}"
                    for one in self._document.parameters(item, operation)
                    if one.get("in") in ("header", "cookie")
                }
            )
        except BadReference as reason:
            return None, [f"args are unchecked: {reason}"]
        unsaid = [f"args are unchecked: {why}"] if args is None else []
        if others:
            unsaid.append(f"not among the arguments: {', '.join(others)}")
        if "servers" in operation or "servers" in item:
            unsaid.append("it is served elsewhere: calls go to the upstream's url all the same")
        return args, unsaid

    def _gives_a_secret(self, operation: dict[str, Any]) -> bool:
        """Whether a successful JSON answer has a member that is declared to be a password."""
        responses = operation.get("responses")
        for status in ("200", "201"):
            answer = responses.get(status) if isinstance(responses, dict) else None
            try:
                content = self._document.resolve(answer).get("content")
                media = content.get("application/json") if isinstance(content, dict) else None
                schema = media.get("schema") if isinstance(media, dict) else None
                members = self._document.resolve(schema).get("properties")
                listed = list(members.values()) if isinstance(members, dict) else []
                for member in listed[:_ANSWER_MEMBERS_MAX]:
                    if self._document.resolve(member).get("format") == "password":
                        return True
            except BadReference:
                continue  # nothing is certain of an answer that cannot be read
        return False


def _fitted(text: object) -> str:
    """A text as an operation's name, as far as its characters may stand in one."""
    if not isinstance(text, str):
        return ""
    spaceless = text[: 4 * NAME_LENGTH_MAX].replace("{", "").replace("}", "")
    return _NOT_OF_A_NAME.sub("_", spaceless).strip("_/")[:NAME_LENGTH_MAX].strip("_/")


def _servers(root: Mapping[str, Any]) -> tuple[str, ...]:
    listed = root.get("servers")
    return tuple(
        _filled(one["url"], one.get("variables"))
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and isinstance(one.get("url"), str)
    )


def _filled(url: str, variables: Any) -> str:
    """A server's URL with the defaults of its variables."""
    known = variables if isinstance(variables, dict) else {}

    def default(match: re.Match[str]) -> str:
        variable = known.get(match[1])
        value = variable.get("default") if isinstance(variable, dict) else None
        return value if isinstance(value, str) else match[0]

    return _VARIABLE.sub(default, url[:_URL_LENGTH_MAX])


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
