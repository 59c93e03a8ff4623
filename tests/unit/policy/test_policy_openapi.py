"""OpenAPI documents: operations, routes and arguments; what is bad is refused, what is open stays
unchecked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from policy_setup import errors, load, policies

from sidecar.policy.openapi import Operation, read_openapi
from sidecar.policy.openapi_text import BadDocument

PETS = b"""
openapi: 3.1.0
info: {title: Pets, version: "1", x-at: 2020-01-01}
paths:
  /pets/{petId}:
    parameters:
      - {name: petId, in: path, required: true, schema: {type: integer}}
    get:
      operationId: getPet
      parameters: &shared
        - {name: fields, in: query, schema: {type: array, items: {type: string}}}
        - {name: verbose, in: query, schema: {type: boolean}}
        - {name: X-Trace, in: header, schema: {type: string}}
    put:
      operationId: putPet
      parameters: *shared
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/Pet'}
  /pets/{petId}:archive:
    post:
      responses: {}
components:
  schemas:
    Pet:
      allOf:
        - {$ref: '#/components/schemas/Named'}
        - type: object
          required: [tag]
          properties:
            tag: {type: string, nullable: true}
            note: {type: [string, "null"]}
            born: {type: [integer, string]}
            weight: {anyOf: [{type: number}, {type: "null"}], title: Weight}
            owner: {oneOf: [{type: "null"}, {$ref: '#/components/schemas/Named'}]}
            colour: {anyOf: [{type: string}, {type: integer}]}
            shape: {anyOf: [{type: string}, {type: "null"}], not: {const: x}}
            toys: {type: array, items: {$ref: '#/components/schemas/Named'}}
    Named: {type: object, required: [name], properties: {name: {type: string}}}
"""


def operations(document: Any) -> dict[str, Operation]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {operation.name: operation for operation in read_openapi(data)[0]}


def one(operation: dict[str, Any], path: str = "/x", **more: Any) -> Operation:
    (found,) = operations(
        {"openapi": "3.0.3", "paths": {path: {"post": {"operationId": "op", **operation}}}, **more}
    ).values()
    return found


def body(schema: Any, media: str = "application/json", **more: Any) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media: {"schema": schema}}, **more}}


def plain(operation: Operation) -> dict[str, str] | None:
    return None if operation.args is None else operation.args.plain()


def test_operations_have_routes_and_arguments() -> None:
    found = operations(PETS)
    assert list(found) == ["getPet", "putPet", "POST /pets/{petId}:archive"]
    assert found["getPet"].route.text == "GET /pets/{petId}"
    assert plain(found["getPet"]) == {"petId": "int", "fields": "[string]?", "verbose": "bool?"}
    assert plain(found["putPet"]) == {
        "petId": "int",
        "fields": "[string]?",
        "verbose": "bool?",
        "name": "string",
        "tag": "any",
        "note": "string?",
        "born": "any?",
        "weight": "number?",
        "owner": "object?",
        "colour": "any?",
        "shape": "any?",
        "toys": "[object]?",
    }
    assert plain(found["POST /pets/{petId}:archive"]) == {"petId": "string"}


FORM = "application/x-www-form-urlencoded"
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}}
NEEDED = {"type": "object", "required": ["b"], "properties": {"b": {"type": "integer"}}}
BINARY = {"type": "string", "format": "binary"}
UPLOAD = {
    "required": ["file"],
    "properties": {
        "file": BINARY,
        "more": {"type": "array", "items": BINARY},
        "x": {"type": "object"},
    },
}


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        (body(OBJECT), {"a": "string?"}),
        (body({**OBJECT, "required": ["a"]}), {"a": "string"}),
        (body({**OBJECT, "required": ["a"]}, required=False), {"a": "string?"}),
        (body(OBJECT, FORM), {"a": "string?"}),
        (body(OBJECT, "application/vnd.acme+json; charset=utf-8"), {"a": "string?"}),
        (body(OBJECT, "application/x-amz-json-1.1"), {"a": "string?"}),
        (body(OBJECT, "application/x-ndjson"), {"body": "[any]"}),
        (body(OBJECT, "application/vnd.elasticsearch+x-ndjson; v=9", required=False),
         {"body": "[any]?"}),
        (body({**OBJECT, "additionalProperties": False}), {"a": "string?"}),
        (body({**OBJECT, "additionalProperties": True}), None),
        (body({**OBJECT, "additionalProperties": {"type": "string"}}), None),
        (body({"type": "object"}), None),
        (body({"oneOf": [OBJECT]}), {"a": "string?"}),
        (body({"oneOf": [OBJECT, NEEDED]}), {"a": "string?", "b": "int?"}),
        (body({"anyOf": [NEEDED, {**NEEDED, "title": "x"}]}), {"b": "int"}),
        (body({"oneOf": [OBJECT, {"properties": {"a": {"type": "integer"}}}]}), {"a": "any?"}),
        (body({**OBJECT, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}), {"a": "string?"}),
        (body({"oneOf": [OBJECT, {"type": "string"}]}), None),
        (body({"type": "array", "items": OBJECT}), {"body": "[object]"}),
        (body({"type": "string"}, required=False), {"body": "string?"}),
        (body(OBJECT, "multipart/form-data"), {"a": "string?"}),
        (body(UPLOAD, "multipart/form-data"), {"file": "object", "more": "[object]?", "x": "any?"}),
        (body(OBJECT, "application/octet-stream"), {"body_sha256": "string", "body_size": "int"}),
        (body({}, "image/png", required=False), {"body_sha256": "string?", "body_size": "int?"}),
        (body(OBJECT, "text/plain"), None),
        (body({"properties": {"o": {"type": "object"}}}, FORM), None),
        (body({"properties": {"o": {"allOf": [{"type": "object"}]}}}), {"o": "object?"}),
        (body({"properties": {"o": {"oneOf": [{"type": "string"}, {"type": "string"}]}}}),
         {"o": "string?"}),
        (body({"properties": {"o": {"type": "string", "anyOf": [{"minLength": 1}]}}}),
         {"o": "string?"}),
        ({"requestBody": {"content": {}}}, {}),
        ({"parameters": [{"name": "q", "in": "query", "content": {}}]}, {"q": "string?"}),
        ({"parameters": [{"name": "q", "in": "query", "schema": {"type": "object"}}]}, None),
        (
            {"parameters": [{"name": "q", "in": "query", "explode": False,
                             "schema": {"type": "array", "items": {"type": "integer"}}}]},
            {"q": "string?"},
        ),
        ({"parameters": [{"name": "q", "in": "query", "schema": {"enum": [1]}}]}, {"q": "any?"}),
    ],
)  # fmt: skip
def test_arguments_are_complete_or_unchecked(operation: Any, wanted: Any) -> None:
    assert plain(one(operation)) == wanted


def test_a_form_that_spreads_lists_over_names_is_unchecked() -> None:
    listed = {"properties": {"a": {"type": "array", "items": {"type": "string"}}}}
    assert plain(one(body(listed, FORM))) == {"a": "[string]?"}
    operation = body(listed, FORM)
    operation["requestBody"]["content"][FORM]["encoding"] = {"a": {"style": "deepObject"}}
    assert plain(one(operation)) is None


def test_one_of_two_kinds_of_body_requires_what_both_require() -> None:
    operation = body(NEEDED)
    content = operation["requestBody"]["content"]
    content[FORM] = {
        "schema": {**NEEDED, "properties": {**OBJECT["properties"], **NEEDED["properties"]}}
    }
    assert plain(one(operation)) == {"b": "int", "a": "string?"}


def test_d3_schemas_that_hold_themselves_end() -> None:
    bomb = b"""
openapi: 3.0.0
paths:
  /x:
    post:
      requestBody:
        content:
          application/json: {schema: &a {oneOf: [*a, *a], properties: &p {x: {properties: *p}}}}
          application/xyz+json: {schema: *a}
"""
    assert [operation.args for operation in operations(bomb).values()] == [None]


def test_a_name_in_two_places_must_fit_both() -> None:
    operation = body({"type": "object", "properties": {"id": {"type": "integer"}}})
    assert plain(one(operation, "/x/{id}")) == {"id": "any"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an OpenAPI document"),
        (b"[]", "not an OpenAPI document"),
        (b"openapi: 2.0", "not an OpenAPI 3"),
        (b"swagger: '2.0'", "not an OpenAPI 3"),
        (b"\xff", "not UTF-8"),
        (b"openapi: 3.0.0\nopenapi: 3.0.0\n", "twice"),
        (b'{"openapi": "3.0.0", "paths": {}, "paths": {}}', "twice"),
        (b'{"openapi": ', "Expecting value"),
        (b"openapi: 3.0.0\npaths: {a: !!python/object:os.system {}}", "could not determine"),
        (b"openapi: 3.0.0\npaths: &a\n  /x: *a", None),
        (b"{" * 100_000, "Expecting property name"),
        (b"[" * 100_000, "nested deeper"),
        (b" " * (16 * 1024 * 1024 + 1), "larger than 16 MiB"),
        (b'{"openapi": "3.0.0", "paths": {"/x": {"$ref": "http://x/y"}}}', "leads out"),
        (b'{"openapi": "3.0.0", "paths": {"/x": {"$ref": "#/nowhere"}}}', "leads nowhere"),
        (b'{"openapi": "3.0.0", "paths": {"/x": {"$ref": "#/paths/~1x"}}}', None),
    ],
)  # fmt: skip
def test_d3_a_bad_document_is_refused(data: bytes, said: str | None) -> None:
    if said is None:
        assert read_openapi(data) == ((), [])
        return
    with pytest.raises(BadDocument) as refused:
        read_openapi(data)
    assert said in str(refused.value)


def test_d3_a_yaml_document_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are built: `[],` is three bytes, and a kilobyte of nodes."""
    monkeypatch.setattr("sidecar.policy.openapi_text.NODES_MAX", 100)
    head = b"openapi: 3.0.0\nx: ["
    assert read_openapi(head + b"[]," * 95 + b"]") == ((), [])
    with pytest.raises(BadDocument, match="more than 100 values"):
        read_openapi(head + b"[]," * 96 + b"]")


def test_an_operation_id_twice_is_refused() -> None:
    paths = {"/a": {"get": {"operationId": "x"}}, "/b": {"get": {"operationId": "x"}}}
    with pytest.raises(BadDocument, match="twice"):
        operations({"openapi": "3.0.0", "paths": paths})


def test_a_path_that_cannot_be_judged_is_passed_over_with_a_note() -> None:
    document = {"openapi": "3.0.0", "paths": {"/a/{x}-{y}": {"get": {}}, "/b": {"get": {}}}}
    found, notes = read_openapi(json.dumps(document).encode())
    assert [operation.name for operation in found] == ["GET /b"]
    assert len(notes) == 1 and "passed over" in notes[0]


CATALOGUE = """catalogue: github
openapi: ./pets.yaml
tools:
  getPet: {labels: reads-private, returns: untrusted_external}
  extra: DELETE /pets/{petId}
"""


def test_tools_complete_and_override_the_document() -> None:
    catalogue = policies(CATALOGUE, beside={"./pets.yaml": PETS}).catalogue
    pet = catalogue.entry("github", "getPet")
    assert pet is not None and pet.tool.labels == ("reads-private",) and not pet.tool.mutates
    assert pet.args is not None and "petId" in pet.args.names
    put = catalogue.entry("github", "putPet")
    assert put is not None and put.tool.mutates
    found = catalogue.match_route("github", "DELETE", ("pets", "7"))
    assert found is not None and found[0].tool.operation == "extra"
    archived = catalogue.match_route("github", "POST", ("pets", "7:archive"))
    assert archived is not None and archived[1] == {"petId": "7"}


def test_the_document_is_part_of_the_revision() -> None:
    one_set = policies(CATALOGUE, beside={"./pets.yaml": PETS})
    other = policies(CATALOGUE, beside={"./pets.yaml": PETS + b"# changed\n"})
    assert one_set.revision != other.revision


def test_a_bad_document_is_a_problem_where_it_is_named() -> None:
    assert errors(CATALOGUE, beside={"./pets.yaml": b"a: 1"}) == [
        "f0.yaml:2:10: error: ./pets.yaml: not an OpenAPI 3.0 or 3.1 document"
    ]
    assert (
        load(CATALOGUE, upstreams={"github": "mcp"}, beside={"./pets.yaml": PETS}).policy_set
        is None
    )
