"""Changes as the control API asks for them: in one's own tenant, under one's own name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from identity_setup import place

from sidecar.control.api.problems import RoomRefused
from sidecar.control.caller_desk import CallerDesk
from sidecar.identity.tokens import sha256_of
from sidecar.ledger.fence import Standing
from sidecar.model import Person, Role
from storage.errors import QueueClosed

ANA = Person("acme", "ana", "person:ana", frozenset({Role.OPERATOR}))
RIVAL = Person("rival", "eve", "person:eve", frozenset({Role.OPERATOR}))
PROFILE = {"name": "Helper", "team": "web", "environment": "prod", "risk": "high"}


async def refused(change: Any) -> tuple[str, int]:
    with pytest.raises(RoomRefused) as caught:
        await change
    return caught.value.code, caught.value.status


async def test_an_agent_is_registered_and_registered_again(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk, registry = CallerDesk(at.callers.changes), at.callers.registry
        first = await desk.register(ANA, "helper", PROFILE)
        assert first.is_new and first.row.state == "active" and first.row.version == 1
        assert json.loads(first.row.profile)["team"] == "web"
        assert registry.by_token(sha256_of(first.token)) is not None
        await desk.move(ANA, "helper", "freeze", "why")
        second = await desk.register(ANA, "helper", {**PROFILE, "team": "other"})
        assert not second.is_new and second.row.state == "frozen", "w13: that lifts no freeze"
        assert second.row.profile == first.row.profile
        assert registry.by_token(sha256_of(first.token)) is None
        await desk.move(ANA, "helper", "revoke", "why")
        assert await refused(desk.register(ANA, "helper", PROFILE)) == ("wrong_state", 409)
        (*_, event) = await at.store.audit_events("acme", 99, 9)
        assert (event.actor, event.action) == ("person:ana", "agent.register")


async def test_g1_nobody_changes_anything_of_another_tenant(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk = CallerDesk(at.callers.changes)
        await desk.register(ANA, "helper", PROFILE)
        _, key = await desk.make(ANA, "ci", ["viewer"], [], 0)
        assert key.startswith("tenant_acme.")
        key_id = key.split(".")[1]
        assert await refused(desk.move(RIVAL, "helper", "freeze", "")) == ("unknown_agent", 404)
        assert await refused(desk.rotate_token(RIVAL, "helper", "")) == ("unknown_agent", 404)
        assert await refused(desk.revoke(RIVAL, key_id, "")) == ("unknown_key", 404)
        assert (await desk.revoke(ANA, key_id, "done")).state == "revoked", "positive control"


async def test_what_stands_so_already_is_told_as_it_stands(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk = CallerDesk(at.callers.changes)
        row = await desk.move(ANA, "tester", "unfreeze", "")
        assert (row.agent_id, row.state, row.version) == ("tester", "active", 0)
        assert (await desk.move(ANA, "tester", "freeze", "")).version == 1
        assert await refused(desk.move(ANA, "tester", "restore", "")) == ("wrong_state", 409)


async def test_bad_names_and_stores_that_stand_still_are_told(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        desk = CallerDesk(at.callers.changes)
        assert await refused(desk.register(ANA, "No Name", PROFILE)) == ("bad_name", 422)
        assert await refused(desk.make(ANA, "ci", ["viewer"], ["No Name"], 0)) == ("bad_name", 422)
        assert await refused(desk.make(ANA, "ci", [], [], 0)) == ("bad_key", 422)
        assert await refused(desk.move(ANA, "tester", "freeze", "x" * 2000)) == ("bad_reason", 422)
        at.fence.stand(Standing("f", "x", "", 0))
        assert await refused(desk.move(ANA, "tester", "freeze", "")) == ("store_fenced", 503)
        at.fence.lift()
        await at.queue.close()
        with pytest.raises(QueueClosed):
            await desk.move(ANA, "tester", "freeze", "")
