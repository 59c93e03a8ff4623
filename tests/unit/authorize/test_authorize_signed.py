"""Agents that come with signed tokens ask, poll and spend by either listener, as a bearer too."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from authorize_setup import ANA, Stage, call, stage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "identity"))
from issuer import IdentityProvider, provider

from sidecar.identity import lockout

MERGE = call("merge_pull_request", mutates=True, parameters={"pull_number": 7})
PEOPLE = "people: {ana: {roles: operator, jwt: ana}}"
TENANTS = f"""
tenants: {{default: {{agents: {{agent: {{jwt: agent}}, other: {{jwt: other}}}}, {PEOPLE}}}}}
identity:
  jwt: {{issuer: https://idp.acme.io, audience: tools, people_audience: people, jwks: 'URL'}}
"""


@asynccontextmanager
async def signed(folder: Path) -> AsyncIterator[tuple[Stage, IdentityProvider]]:
    async with provider() as idp:
        idp.add("k1")
        async with stage(folder, more=TENANTS.replace("URL", idp.url)) as one:
            yield one, idp


@pytest.mark.parametrize("header", ["Authorization", "Aegis-Token"])
@pytest.mark.parametrize("control", [False, True], ids=["data", "control"])
async def test_a_signed_token_asks_polls_and_spends(
    tmp_path: Path, header: str, *, control: bool
) -> None:
    async with signed(tmp_path) as (one, idp):
        prefix = "Bearer " if header == "Authorization" else ""

        def of(agent: str) -> dict[str, str]:
            return {header: prefix + idp.token("k1", sub=agent)}

        asked = await one.authorize(MERGE, headers=of("agent"), control=control)
        assert asked.json["decision"] == "require_approval", asked
        path = f"/v1/approvals/{asked.json['approval']['approval_id']}"
        polled = await one.ask("GET", path, headers=of("agent"), control=control)
        assert (polled.status, polled.json["status"]) == (200, "created")
        early = await one.ask("POST", f"{path}/consume", headers=of("agent"), control=control)
        assert (early.status, early.json["details"]["reason"]) == (409, "approval_pending")
        await one.approve(asked.json["approval"]["approval_id"], ANA)
        for answer in (
            await one.ask("GET", path, headers=of("other"), control=control),
            await one.ask("POST", f"{path}/consume", headers=of("other"), control=control),
        ):
            assert answer.json["details"]["reason"] == "unknown_approval", "another agent's"
        spent = await one.ask("POST", f"{path}/consume", headers=of("agent"), control=control)
        assert (spent.status, spent.json["status"]) == (200, "consumed")
        assert await one.metric("aegis_authentication_failures_total") == {}


async def test_g4_what_a_token_says_of_itself_only_leads_it_to_a_door(tmp_path: Path) -> None:
    async with signed(tmp_path) as (one, idp):
        asked = await one.authorize(MERGE, token=idp.token("k1", sub="agent"))
        path = f"/v1/approvals/{asked.json['approval']['approval_id']}"
        held = idp.token("k1", sub="agent")
        forged = [
            f"{held[:-8]}AAAAAAAA",
            idp.token("k1", sub="agent", aud=["tools", "people"]),
            idp.token("k1", sub="agent", aud="others"),
            idp.token("k1", sub="agent", iss="https://idp.rival.io"),
            idp.token("k1", sub="ana"),
            "a.b.c",
            "..",
        ]
        for token in forged:
            for method, where in (("GET", path), ("POST", f"{path}/consume")):
                answer = await one.ask(method, where, token=token, control=True)
                assert answer.status == 401, (token, method)
        ana = idp.token("k1", sub="ana", aud="people")
        looked = await one.ask("GET", path, token=ana, control=True)
        assert (looked.status, looked.json["tenant"]) == (200, "default"), "as people see it"
        await one.approve(asked.json["approval"]["approval_id"], ANA)
        spent = await one.ask("POST", f"{path}/consume", token=ana, control=True)
        assert (spent.status, spent.json["status"]) == (200, "consumed"), "an operator's token"


async def test_polls_of_a_signed_agent_lock_nobody_out_of_the_control_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "FAILURES_MAX", 3)
    async with signed(tmp_path) as (one, idp):
        asked = await one.authorize(MERGE, token=idp.token("k1", sub="agent"))
        path = f"/v1/approvals/{asked.json['approval']['approval_id']}"
        for number in range(5):
            token = idp.token("k1", sub="agent", n=number)
            assert (await one.ask("GET", path, token=token, control=True)).status == 200
        ana = idp.token("k1", sub="ana", aud="people")
        assert (await one.ask("GET", path, token=ana, control=True)).status == 200
