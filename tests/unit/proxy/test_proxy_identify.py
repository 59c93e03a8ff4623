"""Who calls, through a whole sidecar: each kind of credential, right and wrong, and its answer."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from proxy_whole_setup import Answer, Whole, receipts, whole
from proxy_wire_setup import answering

from sidecar.identity import lockout
from sidecar.identity.agent_states import Move

TOKEN = "coder-canary-Qm9Yb2N4a1Zt-1"
OTHER = "tester-canary-b2N4a1ZtQm9Y-2"
RIVAL = "rival-canary-Xb2N4a1ZtQm9Y-3"
POLICIES = {
    "api.yaml": "catalogue: api\ntools: {get: GET /get}\n",
    "p.yaml": "policy: p\nrules: [{id: all, effect: allow, tools: ['api/*', mcp/unknown]}]\n",
}
TENANTS = """
tenants:
  acme: {agents: {coder: {token: {file: coder.txt}}, tester: {token: {file: tester.txt}}}}
  rival: {agents: {coder: {token: {file: rival.txt}}}}
"""
INJECTS = ", auth: {header: {name: X-Api-Key, value: {file: upstream.txt}}}"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def sidecar(folder: Path, more: str = TENANTS, api: str = "") -> AsyncIterator[Whole]:
    secrets = {"coder": TOKEN, "tester": OTHER, "rival": RIVAL, "upstream": "upstream-secret"}
    for name, secret in secrets.items():
        (folder / f"{name}.txt").write_text(secret)
        (folder / f"{name}.txt").chmod(0o600)
    async with whole(folder, answering(OK), POLICIES, more, api) as one:
        yield one


def token(value: str) -> dict[str, str]:
    return {"Aegis-Token": value}


def shape(answer: Answer) -> tuple[int, dict[str, str], dict[str, Any]]:
    """All that a caller is told, without what differs between any two calls."""
    own = answer.json["call_id"].encode()
    body = {**json.loads(answer.body.replace(own, b"")), "instance": ""}
    headers = {name: value for name, value in answer.headers.items() if name != "aegis-call-id"}
    return answer.status, headers, body


async def test_a_token_says_who_calls_and_stays_here(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as one:
        for value in (TOKEN, OTHER, RIVAL):
            assert (await one.ask("GET", "/api/get", headers=token(value))).status == 200
        arrived = one.arrived.lower()
        assert b"aegis" not in arrived and b"canary" not in arrived
    log = one.log.getvalue()
    who = [
        (row["tenant_id"], row["agent_id"]) for row in receipts(tmp_path) if row["kind"] == "intent"
    ]
    assert sorted(who) == [("acme", "coder"), ("acme", "tester"), ("rival", "coder")]
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert b"canary" not in kept and "canary" not in log


async def test_g4_all_wrong_credentials_are_told_the_same(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as one:
        await one.sidecar.callers.changes.move("acme", "tester", Move.REVOKE, actor="test")
        wrong = [
            "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), OTHER, "tökén", "\x7f" * 8, "a.b.c",
            "agent_acme.coder.x", "x" * 7000, f"Bearer {TOKEN}",
        ]  # fmt: skip
        shapes = []
        for value in wrong:
            answer = await one.ask("GET", "/api/get", headers=token(value))
            if value == "\x7f" * 8:
                assert answer.status == 400, "no header holds control characters"
                continue
            shapes.append(shape(answer))
        huge = await one.ask("GET", "/api/get", headers=token("x" * 1_000_000))
        assert huge.status == 431
        good = await one.ask("GET", "/api/get", headers=token(TOKEN))
        failures = await one.metric("aegis_authentication_failures_total")
        assert one.arrived.count(b"HTTP/1.1\r\n") == 1
    assert shapes[0][0] == 401 and shapes[0][2]["code"] == "unauthenticated"
    assert all(each == shapes[0] for each in shapes), shapes
    assert good.status == 200, "positive control"
    assert failures['{reason="unknown"}'] == len(shapes)


async def test_g4_a_token_in_the_query_counts_for_nothing_and_is_logged_nowhere(
    tmp_path: Path,
) -> None:
    async with sidecar(tmp_path) as one:
        for name in ("token", "aegis-token", "access_token", "Aegis-Token"):
            answer = await one.ask("GET", f"/api/get?{name}={TOKEN}")
            assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
            assert TOKEN not in answer.body.decode()
        assert one.arrived == b""
    assert TOKEN not in one.log.getvalue()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert TOKEN.encode() not in kept


async def test_g4_the_time_of_a_refusal_tells_nothing(tmp_path: Path) -> None:
    """One that shares all but its last character with a token takes as long as one that shares
    nothing: both are looked up by their hash."""
    near, far = TOKEN[:-1] + "x", "#" * len(TOKEN)
    async with sidecar(tmp_path) as one:
        registry = one.sidecar.callers.registry
        from sidecar.identity.tokens import sha256_of

        took: dict[str, list[float]] = {near: [], far: []}
        for _ in range(300):
            for value, times in took.items():
                began = time.perf_counter_ns()
                for _ in range(20):
                    assert registry.by_token(sha256_of(value)) is None
                times.append(time.perf_counter_ns() - began)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 1.5 * min(medians)


async def test_g4_an_address_that_keeps_failing_is_locked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "FAILURES_MAX", 5)
    async with sidecar(tmp_path) as one:
        assert (await one.ask("GET", "/api/get", headers=token(OTHER))).status == 200
        for _ in range(5):
            assert (await one.ask("GET", "/api/get", headers=token("wrong" * 6))).status == 401
        locked = await one.ask("GET", "/api/get", headers=token("wrong" * 6))
        guessed = await one.ask("GET", "/api/get", headers=token(TOKEN))
        working = await one.ask("GET", "/api/get", headers=token(OTHER))
        assert await one.metric("aegis_authentication_failures_total") == {
            '{reason="unknown"}': 5, '{reason="locked_out"}': 2,
        }  # fmt: skip
    assert "locked out" in one.log.getvalue()
    assert (locked.status, locked.json["code"]) == (429, "too_many_failures")
    assert shape(locked) == shape(guessed), "a guess that is right learns nothing"
    assert int(locked.headers["retry-after"]) > 0
    assert working.status == 200, "others of this machine go on"


async def test_without_a_credential_only_the_default_agent_calls(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as one:
        nobody = await one.ask("GET", "/api/get")
        assert (nobody.status, nobody.json["code"]) == (401, "unauthenticated")
    (tmp_path / "second").mkdir()
    more = TENANTS + "identity: {default_agent: acme/tester}\n"
    async with sidecar(tmp_path / "second", more) as one:
        assert (await one.ask("GET", "/api/get")).status == 200
        wrong = await one.ask("GET", "/api/get", headers=token("wrong" * 6))
        assert wrong.status == 401, "a credential that does not hold is not passed over"
        assert (await one.ask("GET", "/api/get", headers=token(TOKEN))).status == 200
    who = [row["agent_id"] for row in receipts(tmp_path / "second") if row["kind"] == "intent"]
    assert who == ["tester", "coder"]


async def test_a_bearer_is_ours_only_where_the_upstream_gets_our_credential(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as one:
        answer = await one.ask("GET", "/api/get", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status == 401, "there it is the upstream's"
        both = {"Authorization": "Bearer for-the-upstream", **token(TOKEN)}
        assert (await one.ask("GET", "/api/get", headers=both)).status == 200
        assert b"Bearer for-the-upstream" in one.arrived
    (tmp_path / "second").mkdir()
    async with sidecar(tmp_path / "second", api=INJECTS) as one:
        for headers, status in (
            ({"Authorization": f"Bearer {TOKEN}"}, 200),
            ({"Authorization": f"bearer {TOKEN}"}, 200),
            ({"Authorization": f"Bearer {TOKEN}", **token(TOKEN)}, 200),
            ({"Authorization": "Basic eDp5", **token(TOKEN)}, 200),
            ({"Authorization": f"Bearer {OTHER}", **token(TOKEN)}, 401),
            ({"Authorization": "Bearer sk-unknown", **token(TOKEN)}, 401),
            ({"Authorization": "Bearer sk-unknown"}, 401),
            ({"Authorization": "Bearer"}, 401),
        ):
            answer = await one.ask("GET", "/api/get", headers=headers)
            assert answer.status == status, headers
        assert b"uthorization" not in one.arrived and b"X-Api-Key: upstream-secret" in one.arrived


async def test_w7_each_call_of_a_frozen_agent_is_refused_and_on_record(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as one:
        changes = one.sidecar.callers.changes
        assert (await one.ask("GET", "/api/get", headers=token(TOKEN))).status == 200
        await changes.move("acme", "coder", Move.FREEZE, actor="socket:ana")
        rest = await asyncio.gather(
            *(one.ask("GET", "/api/get", headers=token(TOKEN)) for _ in range(20))
        )
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "x"}}
        accepts = {"Accept": "application/json, text/event-stream", **token(TOKEN)}
        tool = await one.ask("POST", "/mcp", message, accepts)
        await changes.move("acme", "coder", Move.QUARANTINE, actor="socket:ana")
        later = await one.ask("GET", "/api/get", headers=token(TOKEN))
        await changes.move("acme", "coder", Move.RESTORE, actor="socket:ana")
        assert (await one.ask("GET", "/api/get", headers=token(TOKEN))).status == 200
        assert one.arrived.count(b"HTTP/1.1\r\n") == 2
        assert await one.metric("aegis_agents") == {'{state="active"}': 3}
    assert {(each.status, each.json["code"]) for each in rest} == {(403, "agent_frozen")}
    assert "agent_frozen" in tool.body.decode()
    assert (later.status, later.json["code"]) == (403, "agent_quarantined")
    told = [row["facts"].get("code") or row["outcome"] for row in receipts(tmp_path)
            if row["kind"] == "refusal"]  # fmt: skip
    assert sorted(told) == ["agent_frozen"] * 21 + ["agent_quarantined"]


async def test_w13_a_revoked_agent_is_as_unknown_as_any(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as one:
        unknown = await one.ask("GET", "/api/get", headers=token("wrong" * 6))
        for move in (Move.REVOKE, Move.DELETE):
            await one.sidecar.callers.changes.move("acme", "coder", move, actor="test")
            answer = await one.ask("GET", "/api/get", headers=token(TOKEN))
            assert shape(answer) == shape(unknown)
        assert (await one.ask("GET", "/api/get", headers=token(RIVAL))).status == 200


async def test_a_default_agent_can_be_frozen_and_revoked(tmp_path: Path) -> None:
    async with sidecar(tmp_path, "") as one:
        changes = one.sidecar.callers.changes
        assert (await one.ask("GET", "/api/get")).status == 200
        await changes.move("default", "agent", Move.FREEZE, actor="test")
        assert (await one.ask("GET", "/api/get")).json["code"] == "agent_frozen"
        await changes.move("default", "agent", Move.REVOKE, actor="test")
        assert (await one.ask("GET", "/api/get")).json["code"] == "unauthenticated"


async def test_a_call_that_waits_while_its_agent_is_frozen_does_not_go_ahead(
    tmp_path: Path,
) -> None:
    """The intent was decided on before the freeze and comes to be recorded after it."""
    async with sidecar(tmp_path) as one:
        registry = one.sidecar.callers.registry
        before = registry.view("acme")
        assert before is not None
        await one.sidecar.callers.changes.move("acme", "coder", Move.FREEZE, actor="test")
        # As the node stood before it heard of that:
        registry._views["acme"] = before
        registry._by_token = {
            sha256[:16]: (sha256, before.agents[agent]) for sha256, agent in before.tokens.items()
        }
        answer = await one.ask("GET", "/api/get", headers=token(TOKEN))
        other = await one.ask("GET", "/api/get", headers=token(OTHER))
        assert one.arrived.count(b"HTTP/1.1\r\n") == 1
    assert (answer.status, answer.json["code"]) == (403, "agent_frozen")
    assert other.status == 200, "positive control: decided anew, and active"
    assert json.dumps([row["kind"] for row in receipts(tmp_path)]).count("intent") == 1
