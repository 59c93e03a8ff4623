"""`tools import DOCUMENT`: what it says of a document is so, and what calls will be is in it."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_documents import imported, loaded

from sidecar.policy.openapi_text import BadDocument

TEXT = {"type": "string"}


def of(paths: Any, **more: Any) -> dict[str, Any]:
    return {"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "paths": paths, **more}


def value(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT, **more}


def test_a_value_that_holds_slashes_takes_the_rest_of_the_path() -> None:
    """So GitHub describes files, references and trees: its `/contents/{path}` is called with
    `/contents/src/app.py`, which a route of one segment leaves unknown."""
    many = {"x-multi-segment": True}
    document = of(
        {
            "/repos/{repo}/contents/{path}": {
                "parameters": [value("repo", **many), {"$ref": "#/components/parameters/path"}],
                "get": {"operationId": "get-content"},
                "put": {"operationId": "put-content", "parameters": [value("path")]},
            },
            "/tags/{tag}.json": {
                "get": {"operationId": "tag", "parameters": [value("tag", **many)]}
            },
            "/trees/{sha}": {"get": {"operationId": "tree", "parameters": [value("sha")]}},
        },
        components={"parameters": {"path": value("path", **many)}},
    )
    draft = imported(document)
    catalogue = loaded(draft)

    def called(method: str, *segments: str) -> tuple[str, dict[str, str]] | None:
        found = catalogue.match_route("shop", method, segments)
        return None if found is None else (found[0].tool.operation, found[1])

    wanted = ("get-content", {"repo": "a", "path": "src/app.py"})
    assert called("GET", "repos", "a", "contents", "src", "app.py") == wanted
    assert called("PUT", "repos", "a", "contents", "src", "app.py") is None
    assert called("GET", "trees", "a", "b") is None
    assert called("GET", "repos", "a", "b", "contents", "c") is None
    assert draft.text.count("takes the rest of the path") == 1


@pytest.mark.parametrize(
    ("server", "is_noted"),
    [
        ({"url": "https://{host}/{base}", "variables": {"base": {"default": "v2"}}}, False),
        ({"url": "/{base}/", "variables": {"base": {"default": "v2", "enum": ["v1"]}}}, False),
        ({"url": "https://x/{base}", "variables": {"base": {"default": "v1"}}}, True),
        ({"url": "https://x/{base}"}, True),
        ({"url": "https://x/{base}", "variables": {"base": 7}}, True),
        ({"url": "https://x/{base}", "variables": [7]}, True),
    ],
)
def test_servers_with_variables_have_their_defaults(server: Any, is_noted: bool) -> None:
    draft = imported(of({"/a": {"get": {}}}, servers=[server]))  # of an upstream below /v2
    assert any("routes fit only if" in note for note in draft.notes) is is_noted


def test_what_is_no_operation_is_named_among_what_is_left_out() -> None:
    document = of(
        {
            "users": {"get": {}},
            "/a": {
                "GET": {}, "query": {}, "trace": {"operationId": "trace-a"}, "get": {},
                "summary": "s", "servers": [], "parameters": [], "x-get": {}, "description": "d",
            },
            "x-internal": {"get": {}},
        }
    )  # fmt: skip
    draft = imported(document)
    assert [tool.operation for tool in loaded(draft).tools] == ["GET/a"]
    left_out = draft.text.partition("# Left out")[2]
    assert [line.strip("# ") for line in left_out.splitlines()[1:-1]] == [
        "users: a path begins with a slash",
        "GET /a: GET is written in lower case in a document",
        "QUERY /a: not a method of OpenAPI 3.0 or 3.1",
        "TRACE /a: TRACE is not served",
    ]
    assert "1 operation; 4 left out" in draft.notes[0]


def test_bodies_that_are_refused_are_called_so() -> None:
    def body(media_type: str) -> dict[str, Any]:
        return {"requestBody": {"content": {media_type: {"schema": {"type": "object"}}}}}

    document = of(
        {
            "/odd": {"post": body("application/x-json")},
            "/note": {"post": body("text/plain")},
            "/search": {"get": body("application/json"), "delete": body("application/json")},
        }
    )
    text = imported(document).text
    assert "a body of application/x-json type is refused" in text
    assert "a body of text/plain type is not read" in text
    assert text.count("arguments in its body are refused") == 1
    assert "GET has them elsewhere" in text


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"swagger": "2.0", "paths": {}}, "converted to OpenAPI 3"),
        ({"openapi": 3.1}, "has to be text"),
        ({"openapi": "3.2.0"}, "'3.2.0'"),
        ({"info": {}}, "document"),
    ],
)
def test_a_document_of_another_kind_is_told_what_it_is(document: Any, why: str) -> None:
    with pytest.raises(BadDocument, match="not an OpenAPI") as caught:
        imported(document)
    assert why in str(caught.value)
