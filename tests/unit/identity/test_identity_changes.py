"""Changes of agents and keys: each on record with who and why, and nothing revived."""

from __future__ import annotations

import asyncio
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from identity_setup import OTHER_TOKEN, TOKEN, Place, SteadyMovedClock, configured, place

from sidecar.control.api.problems import problem_of
from sidecar.identity import changes as changes_room
from sidecar.identity.agent_states import Move
from sidecar.identity.changes import ChangeRefused, Changes
from sidecar.identity.profiles import AgentProfile, KeyProfile
from sidecar.identity.tokens import sha256_of
from sidecar.ledger.fence import Standing
from sidecar.model import AgentState, Principal, RiskLevel, Role, TrustLevel
from storage.errors import CommitUnknown, QueueTimeout, ReadTimeout, StoreError
from storage.records import Answer, Entry, Recorded, Unrecordable
from storage.standing import AuditRow

WHO = "socket:root"
PROFILE = AgentProfile("web", "prod", RiskLevel.HIGH, TrustLevel.UNTRUSTED_EXTERNAL)
KEY = KeyProfile("ci", frozenset({Role.AUDITOR}), frozenset({"leads"}))


async def refused(change: Any) -> str:
    with pytest.raises(ChangeRefused) as caught:
        await change
    assert caught.value.title
    return caught.value.code


async def audit(at: Place) -> list[AuditRow]:
    return await at.store.audit_events("acme", 2**62, 100)


async def test_a_registered_agent_is_known_by_its_token(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        made = await at.callers.changes.register_agent("acme", "helper", PROFILE, actor=WHO)
        assert made.token is not None and made.token.startswith("agent_acme.helper.")
        assert made.token not in repr(made)
        found = at.callers.registry.by_token(sha256_of(made.token))
        assert found == Principal(
            "acme", "helper", "web", "prod", RiskLevel.HIGH, TrustLevel.UNTRUSTED_EXTERNAL, epoch=1
        )
        assert at.callers.registry.by_token(sha256_of(made.token + "x")) is None
        assert (
            await refused(at.callers.changes.register_agent("acme", "helper", PROFILE, actor=WHO))
            == "agent_exists"
        )
    async with place(tmp_path) as again:
        assert again.callers.registry.by_token(sha256_of(made.token)) == found


async def test_g10_a_change_is_one_receipt_with_actor_before_and_after(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        changed = await at.callers.changes.move(
            "acme", "coder", Move.FREEZE, actor=WHO, reason="it mails customers"
        )
        (receipt,) = await at.store.receipts("acme", 0, 10)
        facts = await at.store.call_facts("acme", receipt.seq)
        (event,) = await audit(at)
    assert changed.seq == receipt.seq == event.seq
    assert (receipt.kind, receipt.action, receipt.approver, receipt.agent_id) == (
        "control", "agent.freeze", WHO, "coder",
    )  # fmt: skip
    assert facts is not None and facts.arguments is not None
    commitment = hmac.digest(bytes.fromhex(facts.salt), facts.arguments.encode(), "sha256")
    assert receipt.args_commitment == commitment.hex()
    said = json.loads(facts.arguments)
    assert (said["before"]["state"], said["after"]["state"]) == ("active", "frozen")
    assert said["reason"] == event.reason == "it mails customers"
    assert (event.actor, event.action, event.subject) == (WHO, "agent.freeze", "agent:coder")
    assert json.loads(event.before_state) == said["before"]
    assert json.loads(event.after_state) == said["after"]


async def test_g10_what_is_not_recorded_did_not_happen(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        at.fence.stand(Standing("f", "x", "", 0))
        move = at.callers.changes.move("acme", "coder", Move.FREEZE, actor=WHO)
        assert await refused(move) == "store_fenced"
        at.fence.lift()
        await at.queue.close()
        move = at.callers.changes.move("acme", "coder", Move.FREEZE, actor=WHO)
        assert await refused(move) == "queue_closed"
        agent = at.callers.registry.agent("acme", "coder")
        assert agent is not None and agent.state is AgentState.ACTIVE
        assert await audit(at) == []


async def test_w13_nothing_revives_what_is_at_its_end(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        changes = at.callers.changes
        made = await changes.register_agent("acme", "helper", PROFILE, actor=WHO)
        await changes.move("acme", "helper", Move.REVOKE, actor=WHO)
        for move in (Move.UNFREEZE, Move.RESTORE, Move.FREEZE, Move.QUARANTINE):
            assert await refused(changes.move("acme", "helper", move, actor=WHO)) == "wrong_state"
        assert await refused(changes.rotate_token("acme", "helper", actor=WHO)) == "wrong_state"
        again = changes.register_agent("acme", "helper", PROFILE, actor=WHO)
        assert await refused(again) == "agent_exists"
        assert at.callers.registry.by_token(sha256_of(made.token or "")) is None
        await changes.move("acme", "helper", Move.DELETE, actor=WHO)
        again = changes.register_agent("acme", "helper", PROFILE, actor=WHO)
        assert await refused(again) == "agent_exists"
        # Neither does the configuration revive what it names.
        await changes.move("acme", "coder", Move.REVOKE, actor=WHO)
        assert at.callers.registry.by_token(sha256_of(TOKEN)) is None
        assert at.callers.registry.by_token(sha256_of(OTHER_TOKEN)) is not None, "another tenant's"
    async with place(tmp_path) as later:
        assert later.callers.registry.by_token(sha256_of(TOKEN)) is None


async def test_a_state_that_is_there_already_changes_nothing(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first = await at.callers.changes.move("acme", "coder", Move.FREEZE, actor=WHO)
        second = await at.callers.changes.move("acme", "coder", Move.FREEZE, actor=WHO)
        assert first.seq == 1 and second.seq is None and second.agent.state is AgentState.FROZEN
        assert len(await audit(at)) == 1
        back = await at.callers.changes.move("acme", "coder", Move.UNFREEZE, actor=WHO)
        assert back.agent.state is AgentState.ACTIVE, "positive control"


async def test_a_rotated_token_ends_the_one_before(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        changes, registry = at.callers.changes, at.callers.registry
        first = (await changes.rotate_token("acme", "tester", actor=WHO)).token or ""
        assert registry.by_token(sha256_of(first)) is not None, "positive control"
        second = (await changes.rotate_token("acme", "tester", actor=WHO)).token or ""
        assert registry.by_token(sha256_of(first)) is None
        assert registry.by_token(sha256_of(second)) is not None
        rotated = changes.rotate_token("acme", "coder", actor=WHO)
        assert await refused(rotated) == "token_in_configuration"


async def test_changes_of_one_agent_at_once_are_all_made_in_some_order(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        changes = at.callers.changes
        made = await asyncio.gather(
            *(changes.rotate_token("acme", "tester", actor=WHO) for _ in range(3)),
            changes.move("acme", "coder", Move.FREEZE, actor=WHO),
        )
        seqs = sorted(one.seq or 0 for one in made)
        assert seqs == [1, 2, 3, 4]
        (row,) = [row for row in await at.store.agents("acme") if row.agent_id == "tester"]
        assert row.version == 3
        valid = [one for one in made if one.token and at.callers.registry.by_token(
            sha256_of(one.token)
        )]  # fmt: skip
        assert len(valid) == 1, "only the last one counts"


async def test_a_row_that_keeps_changing_is_told(tmp_path: Path) -> None:
    class Contended:
        tries = 0

        async def submit(self, entry: Entry) -> Answer:
            self.tries += 1
            return Unrecordable("changed")

    async with place(tmp_path) as at:
        queue = Contended()
        changes = Changes(at.config, at.callers.registry, queue, at.clock, at.fence)
        assert await refused(changes.move("acme", "coder", Move.FREEZE, actor=WHO)) == "stale"
        assert queue.tries == 4


async def test_what_is_on_record_is_told_also_where_the_store_cannot_be_read_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as refused: the key counted, and nobody had it; the token before was dead."""
    async with place(tmp_path) as at:
        registry, changes = at.callers.registry, at.callers.changes
        read = type(registry)._read
        reads = list[int]()

        async def every_other(self: Any, tenant: str) -> None:
            reads.append(1)
            if len(reads) % 2 == 0:
                raise ReadTimeout("by the time it was recorded")
            await read(self, tenant)

        monkeypatch.setattr(type(registry), "_read", every_other)
        agent = await changes.register_agent("acme", "helper", PROFILE, actor=WHO)
        found = registry.by_token(sha256_of(agent.token or ""))
        assert found is not None and found.agent == "helper" == agent.agent.agent
        rotated = await changes.rotate_token("acme", "helper", actor=WHO)
        assert registry.by_token(sha256_of(agent.token or "")) is None
        assert registry.by_token(sha256_of(rotated.token or "")) is not None
        frozen = await changes.move("acme", "helper", Move.FREEZE, actor=WHO)
        assert frozen.agent.state is AgentState.FROZEN
        key = await changes.make_key("acme", KEY, actor=WHO)
        known = registry.view("acme")
        assert known is not None and key.key is not None and key.key_id in known.keys
        gone = await changes.revoke_key("acme", key.key_id, actor=WHO)
        assert gone.state == "revoked" and len(reads) == 10
        before = registry.view("acme")
        monkeypatch.setattr(type(registry), "_read", read)
        await registry.renew("acme")
        after = registry.view("acme")
        assert before is not None and after is not None
        assert before.epoch == after.epoch - 1, "what rests on it is looked at anew"


@pytest.mark.parametrize("error", [CommitUnknown("cut off"), QueueTimeout()])
async def test_who_made_what_may_be_on_record_is_told_to_look(
    tmp_path: Path, error: StoreError
) -> None:
    class Unsure:
        async def submit(self, entry: Entry) -> Answer:
            raise error

    async with place(tmp_path) as at:
        changes = Changes(at.config, at.callers.registry, Unsure(), at.clock, at.fence)
        with pytest.raises(ChangeRefused, match="whether it was recorded is not known") as caught:
            await changes.make_key("acme", KEY, actor=WHO)
        assert caught.value.code == error.code
        assert "`keys list`" in caught.value.next_step
        said = problem_of(caught.value)
        assert said is not None and said.status == 503
        assert "before you do it again" in said.next_step and "not known" in said.detail


@pytest.mark.parametrize(("tenant", "agent", "code"), [
    ("nobody", "coder", "unknown_tenant"),
    ("acme", "nobody", "unknown_agent"),
    ("rival", "tester", "unknown_agent"),
    ("acme", "", "unknown_agent"),
    ("", "coder", "unknown_tenant"),
])  # fmt: skip
async def test_what_is_not_there_is_not_changed(
    tmp_path: Path, tenant: str, agent: str, code: str
) -> None:
    async with place(tmp_path) as at:
        changes = at.callers.changes
        assert await refused(changes.move(tenant, agent, Move.FREEZE, actor=WHO)) == code
        assert await refused(changes.rotate_token(tenant, agent, actor=WHO)) == code


@pytest.mark.parametrize("name", ["", "-a", "A", "a.b", "a/b", "ä", "a" * 64, "a\n", "a b"])
async def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    async with place(tmp_path) as at:
        made = at.callers.changes.register_agent("acme", name, PROFILE, actor=WHO)
        assert await refused(made) == "bad_name"
        key = at.callers.changes.make_key("acme", KeyProfile(name, KEY.roles), actor=WHO)
        assert await refused(key) == "bad_name"


async def test_no_agent_has_the_name_of_a_path_of_the_api(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        made = at.callers.changes.register_agent("acme", "register", PROFILE, actor=WHO)
        assert await refused(made) == "bad_name"
        await at.callers.changes.register_agent("acme", "register-1", PROFILE, actor=WHO)
        key = at.callers.changes.make_key("acme", KeyProfile("register", KEY.roles), actor=WHO)
        assert (await key).profile.name == "register", "of agents alone"


async def test_a_reason_is_bounded(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        for reason in ("x" * 1025, "\ud800"):
            move = at.callers.changes.move("acme", "coder", Move.FREEZE, actor=WHO, reason=reason)
            assert await refused(move) == "bad_reason"


async def test_a_key_is_made_and_revoked_on_record(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        made = await at.callers.changes.make_key("acme", KEY, actor=WHO, reason="first")
        assert made.key is not None and made.key.startswith(f"tenant_acme.{made.key_id}.")
        assert made.key not in repr(made)
        assert await refused(at.callers.changes.revoke_key("rival", made.key_id, actor=WHO)) == (
            "unknown_key"
        )
        done = await at.callers.changes.revoke_key("acme", made.key_id, actor=WHO)
        assert (done.state, done.key) == ("revoked", None)
        again = at.callers.changes.revoke_key("acme", made.key_id, actor=WHO)
        assert await refused(again) == "wrong_state"
        revoked, created = await audit(at)
    assert (created.action, revoked.action) == ("key.create", "key.revoke")
    assert created.subject == revoked.subject == f"key:{made.key_id}"
    assert json.loads(created.after_state)["roles"] == ["auditor"]


async def test_a_key_needs_a_role_and_time(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        none = at.callers.changes.make_key("acme", KeyProfile("ci", frozenset()), actor=WHO)
        assert await refused(none) == "bad_key"
        over = at.callers.changes.make_key("acme", KEY, actor=WHO, expires_at_us=1)
        assert await refused(over) == "bad_key"


async def test_g5_the_store_keeps_hashes_and_nothing_else(tmp_path: Path) -> None:
    config = configured(tmp_path)
    async with place(tmp_path, config) as at:
        agent = await at.callers.changes.register_agent("acme", "helper", PROFILE, actor=WHO)
        key = await at.callers.changes.make_key("acme", KEY, actor=WHO)
        await at.callers.changes.rotate_token("acme", "helper", actor=WHO)
        assert isinstance(agent.seq, int) and isinstance(key.seq, int)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("aegis.db*"))
    assert sha256_of(key.key or "").encode() in kept, "positive control"
    for secret in (agent.token, key.key, TOKEN):
        assert secret is not None
        assert secret.rpartition(".")[2].encode() not in kept


async def test_every_change_makes_decisions_in_flight_stale(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        before = at.callers.registry.agent("acme", "coder")
        other = at.callers.registry.agent("rival", "coder")
        assert before is not None
        answer = await at.callers.changes.move("acme", "tester", Move.FREEZE, actor=WHO)
        after = at.callers.registry.agent("acme", "coder")
        assert after is not None and (before.epoch, after.epoch) == (0, 1)
        assert at.callers.registry.agent("rival", "coder") == other, "another tenant's are not"
        assert not isinstance(answer, Recorded)


async def test_where_there_are_too_many_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that are over open nothing, and take no room."""
    monkeypatch.setattr(changes_room, "KEYS_MAX", 2)
    monkeypatch.setattr(changes_room, "AGENTS_MAX", 2)
    clock = SteadyMovedClock()
    async with place(tmp_path, clock=clock) as at:
        changes = at.callers.changes
        ends_us = await changes.store_now_us() + 60_000_000
        made = [await changes.make_key("acme", KEY, actor=WHO, expires_at_us=ends_us)]
        made.append(await changes.make_key("acme", KEY, actor=WHO))
        with pytest.raises(ChangeRefused, match="2 keys already") as caught:
            await changes.make_key("acme", KEY, actor=WHO)
        assert (caught.value.code, "keys list" in caught.value.next_step) == ("too_many", True)
        clock.moved_s += 61
        await changes.make_key("acme", KEY, actor=WHO)
        assert await refused(changes.make_key("acme", KEY, actor=WHO)) == "too_many"
        await changes.revoke_key("acme", made[1].key_id, actor=WHO)
        await changes.make_key("acme", KEY, actor=WHO)
        with pytest.raises(ChangeRefused, match="2 agents already") as caught:
            await changes.register_agent("acme", "one-more", PROFILE, actor=WHO)
        assert "runs" in caught.value.next_step
