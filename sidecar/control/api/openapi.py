"""The OpenAPI 3.1 document of the API, made from the table of routes.

Knows: how a route is described there, and which problems any route may answer with.
Must not know: what a route does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import sidecar
from sidecar.control.api.problems import PROBLEMS, Problem
from sidecar.control.api.route import Route

_REFERENCE: Final = "#/components/schemas/{model}"
#: Problems that any route may answer with, and those of routes with a body or an object of a room.
_ALWAYS: Final = (
    "unauthenticated", "role_required", "unknown_parameter", "invalid_parameter",
    "malformed_request", "read_timeout", "too_busy", "store_unavailable", "internal_error",
)  # fmt: skip
_WITH_BODY: Final = ("invalid_body", "request_timeout", "body_too_large", "unsupported_media_type")
_DESCRIPTION: Final = (
    "What people and services may ask a sidecar, each within the tenant of their key. Lists give "
    "an array; the header `X-Next-Cursor`, if there is one, is the `cursor` of the next page, "
    "which may be empty and have a next one all the same: a page looks at so many rows and no "
    "more. Times that end in `_us` are microseconds since 1970, UTC."
)


class Described(NamedTuple):
    """What is served beside the routes of people, as the document tells of it: operations by path
    and method, schemas by name, and ways to prove who asks by name."""

    paths: Mapping[str, Mapping[str, Any]]
    schemas: Mapping[str, Any]
    security: Mapping[str, Any]


NOTHING: Final = Described({}, {}, {})


def document(routes: Iterable[Route], beside: Described = NOTHING) -> dict[str, Any]:
    """The document for these routes, and for what is served beside them."""
    routes = list(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    for path, methods in beside.paths.items():
        for method, said in methods.items():
            at = paths.setdefault(path, {})
            at[method] = _together(at[method], said) if method in at else dict(said)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "aegis-sidecar control API",
            "version": sidecar.__version__,
            "description": _DESCRIPTION,
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}, **beside.security},
            "schemas": _without_nothing(
                dict(sorted((_schemas(routes) | dict(beside.schemas)).items()))
            ),
        },
    }


def problems_of(route: Route) -> dict[int, list[str]]:
    """The codes a route may answer with, by status."""
    found: dict[int, list[str]] = {}
    codes = [*_ALWAYS, *(_WITH_BODY if route.body is not None else ())]
    codes += ["invalid_cursor"] if route.pages else []
    for code in [*codes, *route.problems]:
        found.setdefault(PROBLEMS[code].status, []).append(code)
    return found


def _operation(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.room],
        "x-roles": sorted(role.value for role in route.roles),
        "parameters": [one.described() for one in route.every_parameter],
        "responses": _responses(route),
    }
    if route.body is not None:
        schema = {"$ref": _REFERENCE.format(model=route.body.__name__)}
        said["requestBody"] = {
            "required": not route.is_body_optional,
            "content": {"application/json": {"schema": schema}},
        }
    return said


def _together(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """One operation for people and for whoever else may ask for the same path by the same method:
    who asks decides which of the answers it is."""
    responses = {status: dict(one) for status, one in ours["responses"].items()}
    for status, one in theirs["responses"].items():
        if status not in responses:
            responses[status] = dict(one)
            continue
        content = dict(responses[status]["content"])
        for media_type, said in one["content"].items():
            if media_type in content:
                said = {"schema": {"anyOf": [content[media_type]["schema"], said["schema"]]}}
            content[media_type] = said
        responses[status]["content"] = content
    security = [{"key": []}, *theirs["security"]]
    return {**ours, "security": security, "responses": dict(sorted(responses.items()))}


def _responses(route: Route) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "as asked"}
    if route.media_type == "application/json":
        good["content"] = {route.media_type: {"schema": _answer(route)}}
    else:
        good["content"] = {route.media_type: {}}
    if route.pages:
        good["headers"] = {
            "X-Next-Cursor": {
                "description": "the `cursor` of the next page; absent after the last",
                "schema": {"type": "string"},
            }
        }
    responses: dict[str, Any] = {str(route.status): good}
    problem = {"schema": {"$ref": _REFERENCE.format(model="Problem")}}
    for status, codes in sorted(problems_of(route).items()):
        responses[str(status)] = {
            "description": ", ".join(codes),
            "content": {"application/problem+json": problem},
        }
    return responses


def _answer(route: Route) -> dict[str, Any]:
    """The schema of an answer. A model stands there by its name: what is written out again for each
    route becomes a type of its own for each in clients that are made from the document."""
    if isinstance(route.answer, type) and issubclass(route.answer, BaseModel):
        return {"$ref": _REFERENCE.format(model=route.answer.__name__)}
    schema = route.adapter.json_schema(ref_template=_REFERENCE, mode="serialization")
    schema.pop("$defs", None)
    return schema


def _without_nothing(said: Any) -> Any:
    """Without defaults that are null: that a member may be left out is said by `required`, and some
    makers of clients take whatever has a default for always there."""
    if isinstance(said, dict):
        return {
            name: _without_nothing(one)
            for name, one in said.items()
            if not (name == "default" and one is None)
        }
    return [_without_nothing(one) for one in said] if isinstance(said, list) else said


def _schemas(routes: list[Route]) -> dict[str, Any]:
    """Every model that stands somewhere in the document, by name."""
    bodies = [route.body for route in routes if route.body is not None]
    found: dict[str, Any] = {}
    inputs: list[tuple[type[BaseModel], Any]] = [(one, "validation") for one in bodies]
    _, schema = models_json_schema(
        [*dict.fromkeys(inputs), (Problem, "serialization")], ref_template=_REFERENCE
    )
    found |= schema["$defs"]
    for route in routes:
        if route.media_type == "application/json":
            said = route.adapter.json_schema(ref_template=_REFERENCE, mode="serialization")
            found |= said.pop("$defs", {})
            if isinstance(route.answer, type) and issubclass(route.answer, BaseModel):
                found.setdefault(route.answer.__name__, said)
    return dict(sorted(found.items()))
