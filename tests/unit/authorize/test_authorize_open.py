"""G1: what the listeners of a whole sidecar serve to nobody, walked from the router itself, so that
no route is forgotten which stands in none of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aiohttp import web
from authorize_setup import AGENT_TOKEN, stage

from sidecar.control import server

#: What anybody may ask for who reaches the control listener, and why.
OPEN = {
    ("GET", "/metrics"): "numbers, without names of tenants' things",
    ("GET", "/healthz"): "probes",
    ("GET", "/readyz"): "probes",
    ("GET", "/health"): "probes of SDKs",
    ("GET", "/"): "leads to the console",
    ("GET", "/console/static/{name}"): "files of the package",
    ("GET", "/console/sign-in"): "the form",
    ("POST", "/console/sign-in"): "takes a key, and says no without one",
    ("GET", "/approvals/link/{link}"): "the link itself is signed",
    ("POST", "/approvals/link/{link}"): "the link itself is signed",
}
TENANTS = "tenants: {default: {agents: {agent: {}}}}\n"


async def test_g1_every_route_but_these_takes_a_credential_with_a_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps: list[web.Application] = []
    made = server.control_app

    def kept(**more: object) -> web.Application:
        apps.append(made(**more))  # type: ignore[arg-type]
        return apps[-1]

    monkeypatch.setattr(server, "control_app", kept)
    async with stage(tmp_path, more=TENANTS) as one:
        routes = {
            (route.method, route.resource.canonical)
            for route in apps[0].router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
        assert OPEN.keys() <= routes, "no exception outlives its route"
        tried = 0
        for method, path in sorted(routes - OPEN.keys()):
            asked = re.sub(r"\{[^}]*\}", "1", path)
            for headers in ({}, {"Authorization": f"Bearer {AGENT_TOKEN}"}):
                reply = await one.session.request(
                    "PUT" if method == "*" else method, one.sidecar.control_url + asked,
                    headers={**headers, "Origin": one.sidecar.control_url}, allow_redirects=False,
                )  # fmt: skip
                said = (method, path, headers, reply.status, await reply.text())
                if path.startswith("/console"):
                    assert reply.status in (303, 403, 404, 415), said
                    assert reply.headers.get("Location", "/sign-in").startswith(
                        ("/sign-in", "/console/sign-in")
                    ), said
                elif method == "*":
                    assert reply.status in (404, 405), said
                elif headers and path.startswith("/v1/approvals/{approval_id"):
                    assert reply.status in (403, 404), said  # its own alone, and it has none
                else:
                    assert reply.status == (403 if headers else 401), said
                tried += 1
        assert tried > 150, "positive control"
