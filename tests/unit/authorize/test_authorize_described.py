"""The document that is served tells of authorize what is true: of requests and of answers."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from test_authorize_requests import CASES, changed

from sidecar.authorize.described import described
from sidecar.control.api.openapi import document
from sidecar.control.api.table import ROUTES, written_document

DOCUMENT = document(ROUTES, described())
#: What a schema cannot say: a moment that is none, and what is read of texts themselves.
BEYOND_SCHEMAS = ("timestamp must be a time",)


def checked(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """A validator of a schema of the document."""
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def operation(method: str, path: str) -> dict[str, Any]:
    """What the document has of a request."""
    segments = path.split("/")[2:]
    if segments[0] == "authorize":
        template = "/v1/authorize"
    else:
        template = "/v1/approvals/{approval_id}" + "".join(f"/{one}" for one in segments[2:])
    return dict(DOCUMENT["paths"][template][method.lower()])


def unfit(method: str, path: str, status: int, body: Any) -> list[str]:
    """In what an answer is another than the document says."""
    said = operation(method, path)["responses"].get(str(status))
    if said is None:
        return [f"{method} {path}: the document has no {status}"]
    schema = said["content"]["application/json"]["schema"]
    return [f"{method} {path} {status}: {one.message}" for one in checked(schema).iter_errors(body)]


def test_the_document_takes_the_requests_that_are_taken_and_no_other() -> None:
    body = operation("POST", "/v1/authorize")["requestBody"]
    validator = checked(body["content"]["application/json"]["schema"])
    differing = []
    for case in CASES:
        if case["refused"].startswith(BEYOND_SCHEMAS):
            continue
        is_valid = validator.is_valid(json.loads(changed(case["change"])))
        if is_valid != (not case["refused"]):
            differing.append(case)
    assert differing == []
    assert len(CASES) > 40


def test_agents_and_people_are_told_apart_where_they_ask_for_the_same() -> None:
    poll = operation("GET", "/v1/approvals/x")
    assert poll["security"] == [{"key": []}, {"agent": []}, {"agent_bearer": []}]
    both = poll["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
    assert [one["$ref"].rpartition("/")[2] for one in both] == ["ApprovalDetail", "PolledApproval"]
    assert poll["responses"]["404"]["content"].keys() == {
        "application/json", "application/problem+json",
    }  # fmt: skip
    assert json.loads(written_document(described())) == DOCUMENT


def test_an_answer_that_the_document_has_not_is_told() -> None:
    assert unfit("POST", "/v1/authorize", 418, {})
    assert unfit("POST", "/v1/authorize", 200, {"decision": "allow"})
    assert unfit("GET", "/v1/approvals/x", 200, {"status": "created"})
