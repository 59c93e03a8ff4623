"""G1: every route by every role, of both tenants, on both engines; made from the table."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from api_examples import BODIES, QUERIES, body_of, path_of
from api_setup import CANARY, ROLES, TENANTS, Served, ids_of, key_of

from sidecar.control.api.route import Route
from sidecar.control.api.table import ROUTES
from sidecar.model import Role

OTHER = {"acme": "rival", "rival": "acme"}


def text_of(body: Any) -> str:
    return body.decode() if isinstance(body, bytes) else orjson.dumps(body).decode()


async def asked(served: Served, route: Route, tenant: str, key: str | None) -> tuple[int, Any]:
    status, body, headers = await served.ask(
        path_of(route, tenant), key, method=route.method, body=body_of(route, tenant)
    )
    assert headers["Cache-Control"] == "no-store", route.name
    assert headers["X-Content-Type-Options"] == "nosniff", route.name
    assert CANARY not in text_of(body), route.name
    return status, body


async def heads(served: Served) -> list[int]:
    return [(await served.store.head(tenant)).seq for tenant in TENANTS]


async def notice(served: Served) -> None:
    """Everybody has an incident too."""
    for tenant in TENANTS:
        await served.recorder.notice(tenant)


async def test_g1_nobody_is_answered_without_a_key_or_a_role(served_by_each: Served) -> None:
    served, before = served_by_each, await heads(served_by_each)
    answers = set()
    for route in ROUTES:
        for key in (None, "no-key", "", "acme-admin-key x", "acme"):
            status, body = await asked(served, route, "acme", key)
            assert status == 401, (route.name, key)
            answers.add(text_of(body))
        status, body = await asked(served, route, "acme", "nobody-key")
        assert (status, body["code"]) == (403, "role_required"), route.name
    assert len(answers) == 1, "one shape, whatever the route and the key"
    assert await heads(served) == before


@pytest.mark.parametrize("tenant", TENANTS)
async def test_g1_every_route_is_served_to_its_roles_and_to_no_other(
    served_by_each: Served, tenant: str
) -> None:
    served, other = served_by_each, OTHER[tenant]
    await notice(served)
    others_seq = await served.seq(other)
    for route in ROUTES:
        statuses = []
        for role in ROLES:
            before = await heads(served)
            status, body = await asked(served, route, tenant, key_of(tenant, role))
            if Role(role) in route.roles:
                assert status in good(route), (route.name, role, body)
                assert f"of-{other}" not in text_of(body), route.name
                assert f"coder-{other}" not in text_of(body), route.name
                statuses.append(status)
            else:
                assert (status, body["code"]) == (403, "role_required"), (route.name, role)
                assert await heads(served) == before, route.name
        assert route.status in statuses, (route.name, statuses)
    assert await served.seq(other) == others_seq, "the tenant is the person's own"


def good(route: Route) -> set[int]:
    """What a route answers to who may ask it: what was changed by one role cannot always be
    changed again by the next."""
    return {route.status} if route.method == "GET" else {route.status, 409}


async def test_g1_what_another_tenant_has_answers_as_what_nobody_has(
    served_by_each: Served,
) -> None:
    served, told = served_by_each, 0
    await notice(served)
    acmes_seq = await served.seq()
    rivals_last = str((await served.store.head("rival")).seq)
    rivals = {**ids_of("rival"), "seq": rivals_last}
    for route in ROUTES:
        named = [one.name for one in route.parameters if one.place == "path"]
        if not named:
            continue
        foreign = {name: rivals[name] for name in named}
        unknown = {name: "99999999" if name == "seq" else "nobody-has-this" for name in named}
        if route.name == "get_audit_event":
            foreign["seq"] = "1"  # a call's: there is no change of state
        said = []
        for ids in (foreign, unknown):
            path = path_of(route, "acme", ids)
            if route.name == "get_inclusion_proof":
                path += f"?size={ids['seq']}"
            status, body, _ = await served.ask(
                path, method=route.method, body=body_of(route, "acme")
            )
            assert status == 404, (route.name, body)
            said.append(text_of(body).replace(ids[named[0]], "ID"))
        assert said[0] == said[1], route.name
        told += 1
        status, _ = await asked(served, route, "rival", key_of("rival", "admin"))
        assert status in good(route), f"{route.name}: positive control"
    assert told >= 20
    assert await served.seq() == acmes_seq, "and nothing was changed"


async def test_g1_agents_of_another_tenant_may_not_be_tried(served: Served) -> None:
    path = "/v1/policies/explain"
    status, body, _ = await served.ask(
        path, method="POST",
        body={"call": {"call": "shop/get", "agent": "coder-rival", "args": {"id": "1"}}},
    )  # fmt: skip
    assert (status, body["decision"]) == (200, None)
    assert "rival" not in str(body).replace('"coder-rival"', "")


def test_the_examples_are_of_routes_that_there_are() -> None:
    names = {route.name for route in ROUTES}
    assert not (BODIES.keys() | QUERIES.keys()) - names
