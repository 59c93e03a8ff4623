"""`tools import DOCUMENT`: what becomes of an operation, and that no document can break out."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_documents import CASES, imported, loaded

from sidecar.cli import tools_openapi
from sidecar.cli.tools_openapi_guess import guess
from sidecar.policy.openapi_text import BadDocument

OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}}


def of(paths: Any, **more: Any) -> dict[str, Any]:
    return {"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "paths": paths, **more}


def test_a_document_becomes_the_catalogue_that_stands_beside_it() -> None:
    """Written anew by running this file."""
    draft = imported((CASES / "shop.yaml").read_bytes())
    assert draft.text == (CASES / "shop.catalogue.yaml").read_text()
    catalogue = loaded(draft)
    found = catalogue.match_route("shop", "POST", ("orders",))
    assert found is not None and found[0].tool.operation == "create_order"
    assert found[0].args is not None and found[0].args.plain() == {
        "amount": "int", "card": "string?", "note": "any?", "address": "object?",
    }  # fmt: skip
    assert set(yaml.safe_load(draft.text)) == {"catalogue", "tools"}
    assert set(yaml.safe_load(draft.text)["tools"]) == {tool.operation for tool in catalogue.tools}


def test_names_are_made_to_fit_and_unique_alike_each_time() -> None:
    document = of(
        {
            "/a/{x}": {"get": {}, "post": {"operationId": "unknown"}},
            "/a/x": {"get": {}},
            "/b": {"get": {"operationId": "list"}, "put": {"operationId": "list"}},
            "/c": {"get": {"operationId": "l" * 200}, "put": {"operationId": "l" * 300}},
            "/d": {"get": {"operationId": "\u202e\x1b[2J"}, "put": {"operationId": 7}},
            "/": {"get": {}},
        }
    )
    names = [tool.operation for tool in loaded(imported(document)).tools]
    assert names == [
        "GET/a/x", "unknown-2", "GET/a/x-2", "list", "list-2", "l" * 128, "l" * 122 + "-2",
        "2J", "PUT/d", "GET",
    ]  # fmt: skip
    assert imported(document).text == imported(document).text


@pytest.mark.parametrize(
    ("method", "name", "path", "wanted"),
    [
        ("get", "listOrders", "/orders", (False, "low")),
        ("get", "actions/get-workflow-run", "/runs", (False, "low")),
        ("get", "cancelOrder", "/orders/{id}/cancel", (True, "medium")),
        ("head", "orders", "/orders", (False, "low")),
        ("post", "createOrder", "/orders", (True, "medium")),
        ("post", "listOrders", "/orders/list", (True, "medium")),
        ("post", "createToken", "/x", (True, "high")),
        ("post", "x", "/admin/x", (True, "high")),
        ("delete", "listOrders", "/x", (True, "high")),
        ("put", "", "/", (True, "medium")),
    ],
)
def test_a_guess_is_never_looser_than_the_method(
    method: str, name: str, path: str, wanted: tuple[bool, str]
) -> None:
    assert guess(method, name, path)[:2] == wanted


def test_references_out_of_the_document_are_never_followed(monkeypatch: Any) -> None:
    def opened(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was opened")

    document = of(
        {
            "/a": {"$ref": "http://169.254.169.254/latest"},
            "/b": {"get": {"parameters": [{"$ref": "file:///etc/passwd#/x"}]}},
            "/c": {"post": {"requestBody": {"$ref": "other.yaml#/x"}}},
            "/d": {"get": {"parameters": [{"$ref": "#/components/nowhere"}]}},
        }
    )
    monkeypatch.setattr("socket.socket", opened)
    monkeypatch.setattr("socket.getaddrinfo", opened)
    monkeypatch.setattr("builtins.open", opened)
    draft = imported(document)
    monkeypatch.undo()
    assert [entry.args for entry in loaded(draft).entries] == [None, None, None]
    assert draft.text.count("leads out of the document") == 3
    assert "leads nowhere" in draft.text
    assert "3 operations; 1 left out; 3 with unchecked args" in draft.notes[0]


def test_templates_that_no_request_tells_apart_are_left_out_and_counted() -> None:
    document = of(
        {
            "/a/{x}": {"get": {"operationId": "one"}},
            "/a/{y}": {"get": {"operationId": "two"}},
            "/b/{x}.json/{y}": {"get": {}},
            "/b/a{x}json/{z}/c": {"get": {}},
            "/b/v{x}.jso/{z}": {"get": {}},
            "/c//d": {"get": {}},
            "/c/{x}/{x}": {"get": {}},
            "/c/../d": {"get": {}},
            "/c?d": {"get": {}},
            "/c\x00d\x1b[2J": {"get": {}},
        }
    )
    draft = imported(document)
    assert loaded(draft).match_route("shop", "GET", ("a", "7")) is not None
    assert "GET /a/{y} and GET /a/{x} are equally specific" in draft.text
    assert "\x1b" not in draft.text and "\0" not in draft.text


def bomb(levels: int) -> dict[str, Any]:
    """Each schema holds the next twice: 2^levels in all."""
    schemas = {
        f"s{n}": {"allOf": [{"$ref": f"#/components/schemas/s{n + 1}"}] * 2} for n in range(levels)
    }
    schemas[f"s{levels}"] = OBJECT
    start = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/s0"}}}}
    return of(
        {f"/{n}": {"post": {"requestBody": start}} for n in range(200)},
        components={"schemas": schemas},
    )


LAUGHS = (
    b"openapi: 3.0.0\na: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (one, one, b", ".join([b"*%c" % (one - 1)] * 10))
        for one in range(ord("b"), ord("k"))
    )
    + b"paths: {/x: {post: {parameters: *j}}}\n"
)
ITSELF = b"""openapi: 3.0.0
paths:
  /x: &x
    post: &post
      parameters: &p [*x, {name: q, in: query, schema: &s {type: array, items: *s}}]
      requestBody:
        content: {application/json: {schema: &b {allOf: [*b, *b], properties: {c: *s}}}}
      responses: {"200": {content: {application/json: {schema: *b}}}}
"""


@pytest.mark.parametrize(
    "document", [bomb(30), LAUGHS, ITSELF, of({"/x": {"get": {"parameters": [[]] * 10_000}}})],
    ids=["references", "laughs", "itself", "many"],
)  # fmt: skip
def test_a_document_that_stands_for_any_number_ends(document: Any) -> None:
    """Bombs of references and of YAML aliases: bounded, and a catalogue all the same."""
    begun = time.process_time()
    loaded(imported(document))
    assert time.process_time() - begun < 5


def test_more_operations_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools_openapi, "OPERATIONS_MAX", 20)
    loaded(imported(of({f"/{n}": {"get": {}} for n in range(20)})))
    with pytest.raises(BadDocument, match="more than 20 operations"):
        imported(of({f"/{n}": {"get": {}} for n in range(21)}))


def test_a_catalogue_beyond_its_size_loses_descriptions_then_is_refused() -> None:
    def wide(count: int) -> Any:
        schema = {"properties": {f"argument_{n}": {"type": "string"} for n in range(50)}}
        operation = {
            "description": "long " * 50,
            "requestBody": {"content": {"application/json": {"schema": schema}}},
        }
        return of({f"/{n}": {"post": operation} for n in range(count)})

    assert "long" in imported(wide(10)).text
    draft = imported(wide(690))
    assert "long" not in draft.text and "descriptions are left out" in draft.notes[1]
    loaded(draft)
    with pytest.raises(BadDocument, match=r"openapi: ./FILE"):
        imported(wide(900))


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["<<", "*", "&a", "!!python/x", "? ", "- ", "a: b", "#", "null", "true", "~", "1e3", "'", '"',
     "\\", "]", "}", "\n", "\u2028", "\ufeff", "\x85", "\ud800", "unknown", "id", "mcp:x", "{id}",
     "x" * 200, "route", "args", "\U0001f600", "-", "..", "/"]
)  # fmt: skip
SCHEMAS = st.recursive(
    st.sampled_from(
        [{}, {"type": "string"}, {"type": "integer"}, {"type": ["null", "object"]}, {"type": []},
         {"type": "string", "format": "binary"}, {"$ref": "#/components/schemas/S"}, [], None, 7,
         {"$ref": "#/nowhere"}, {"type": "array"}, {"nullable": True, "type": "number"}]
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array"]),
            "properties": st.dictionaries(TEXTS, inner, max_size=3),
            "items": inner,
            "allOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
            "anyOf": st.lists(inner, max_size=2),
            "required": st.lists(TEXTS, max_size=2),
        },
    ),
    max_leaves=6,
)  # fmt: skip
PARAMETERS = st.fixed_dictionaries(
    {"name": TEXTS, "in": st.sampled_from(["path", "query", "header", "x"])},
    optional={"required": st.booleans(), "schema": SCHEMAS},
)
MEDIA = st.sampled_from(
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "image/png",
     "text/plain", "*/*"]
)  # fmt: skip
OPERATIONS = st.fixed_dictionaries(
    {},
    optional={
        "operationId": TEXTS,
        "summary": TEXTS,
        "description": TEXTS,
        "deprecated": st.booleans(),
        "parameters": st.lists(PARAMETERS, max_size=3),
        "requestBody": st.fixed_dictionaries(
            {"content": st.dictionaries(MEDIA, st.fixed_dictionaries({"schema": SCHEMAS}))},
            optional={"required": st.booleans()},
        ),
        "responses": st.dictionaries(st.just("200"), SCHEMAS, max_size=1),
    },
)
PATHS = st.lists(
    st.sampled_from(["a", "{id}", "{x}", "{id}.json", "v{id}", "{rest...}", "{a}-{b}", "b"])
    | TEXTS,
    max_size=3,
).map(lambda parts: "/" + "/".join(parts))
DOCUMENTS = st.fixed_dictionaries(
    {
        "openapi": st.just("3.1.0"),
        "info": st.dictionaries(st.sampled_from(["title", "version"]), TEXTS),
        "servers": st.lists(st.fixed_dictionaries({"url": TEXTS}), max_size=1),
        "paths": st.dictionaries(
            PATHS,
            st.dictionaries(st.sampled_from(["get", "post", "delete"]), OPERATIONS, max_size=2),
            max_size=4,
        ),
        "components": st.fixed_dictionaries({"schemas": st.dictionaries(st.just("S"), SCHEMAS)}),
    }
)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
def test_whatever_a_document_says_the_catalogue_loads(document: Any) -> None:
    """A name, a path or a description must not become YAML of its own: what loads is exactly the
    tools that were counted."""
    loaded(imported(document))


def test_d3_a_description_that_did_break_out_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: with comments written as they come, a description adds a tool."""
    document = of({"/a": {"get": {"summary": "x\n  evil: GET /evil"}}})
    loaded(imported(document))
    monkeypatch.setattr(
        "sidecar.cli.tools_openapi_catalogue.comment", lambda text, length_max=0: text
    )
    with pytest.raises(AssertionError):
        loaded(imported(document))


if __name__ == "__main__":
    text = imported((CASES / "shop.yaml").read_bytes()).text
    (CASES / "shop.catalogue.yaml").write_text(text)
    print(json.dumps({"written": len(text)}))
