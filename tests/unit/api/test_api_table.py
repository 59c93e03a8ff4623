"""The table of routes, the router and the document are one: walked against each other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from aiohttp import web
from api_setup import Served

from sidecar.authorize.described import described
from sidecar.control.api.openapi import document, problems_of
from sidecar.control.api.problems import PROBLEMS
from sidecar.control.api.route import READERS
from sidecar.control.api.table import ROUTES
from sidecar.ledger.receipt import BODY_KEYS

DOCUMENT = document(ROUTES)
#: With what agents use, as it is served.
WHOLE = document(ROUTES, described())


def test_the_document_has_every_route_and_no_other() -> None:
    told = {
        (method.upper(), path): said
        for path, methods in DOCUMENT["paths"].items()
        for method, said in methods.items()
    }
    assert told.keys() == {(route.method, route.path) for route in ROUTES}
    assert len(told) == len(ROUTES) == len({route.name for route in ROUTES})
    for route in ROUTES:
        said = told[route.method, route.path]
        assert said["operationId"] == route.name
        assert said["x-roles"] == sorted(role.value for role in route.roles)
        named = [one["name"] for one in said["parameters"]]
        assert named == [one.name for one in route.every_parameter]
        assert ("requestBody" in said) == (route.body is not None)
        assert str(route.status) in said["responses"]
        in_path = re.findall(r"\{(\w+)\}", route.path)
        assert in_path == [one.name for one in route.parameters if one.place == "path"]


def test_the_router_has_every_route_and_no_other(served: Served) -> None:
    app = web.Application()
    served.api.add_to(app)
    served_routes = {
        (one.method, one.resource.canonical)
        for one in app.router.routes()
        if one.resource and one.handler != served.api._unserved
    }
    assert served_routes == {(one.method, one.path) for one in ROUTES}


async def test_the_document_that_is_served_is_that_of_the_table(served: Served) -> None:
    status, body, headers = await served.ask("/v1/openapi.json")
    assert (status, body) == (200, WHOLE)
    assert body["paths"].keys() > DOCUMENT["paths"].keys(), "and what agents use"
    assert headers["Content-Type"] == "application/json"
    assert body["openapi"] == "3.1.0"


def test_every_reference_leads_somewhere() -> None:
    found = set(re.findall(r"#/components/schemas/(\w+)", repr(DOCUMENT)))
    assert found == found & DOCUMENT["components"]["schemas"].keys()
    assert found >= {"Problem", "DecisionShape", "NewKey"}


def references(said: Any) -> set[str]:
    """The schemas that something names."""
    return set(re.findall(r"#/components/schemas/(\w+)", repr(said)))


def test_clients_can_be_made_of_the_document() -> None:
    """By makers that write a type for each schema with a name, and for each that has none: one that
    names itself breaks some of them, and one that is written out twice is two types."""
    schemas: dict[str, Any] = WHOLE["components"]["schemas"]
    leads_to = {name: references(schema) for name, schema in schemas.items()}
    for _ in schemas:
        leads_to = {
            name: found.union(*(leads_to[one] for one in found)) for name, found in leads_to.items()
        }
    assert [name for name, found in leads_to.items() if name in found] == [], "none names itself"
    asked = references(WHOLE["paths"])
    used = asked.union(*(leads_to[name] for name in asked))
    assert schemas.keys() == used, "each is used"
    assert '"default": null' not in json.dumps(schemas), "it would be taken for always there"
    for path, methods in WHOLE["paths"].items():
        for method, said in methods.items():
            for status, answer in said["responses"].items():
                assert '"properties"' not in json.dumps(answer), (path, method, status)


def test_schemas_say_no_more_and_no_less_than_what_is_answered() -> None:
    schemas: dict[str, Any] = DOCUMENT["components"]["schemas"]
    assert set(schemas["ReceiptShape"]["properties"]) == {*BODY_KEYS, "receipt_hash"}
    for name, schema in schemas.items():
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False, name


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_route_is_whole(route: Any) -> None:
    assert route.roles and route.roles <= READERS
    assert route.handler.__doc__ or route.handler.func.__doc__
    assert route.summary and route.room
    assert problems_of(route)[401] == ["unauthenticated"]
    if route.method == "GET":
        assert route.body is None
        assert route.time_limit_s is not None or route.name in ("export_receipts", "get_document")
    names = [one.name for one in route.every_parameter]
    assert len(names) == len(set(names)) and "tenant" not in names
    for code in route.problems:
        assert code in PROBLEMS
