"""Who is configured is on record when that changes: a real configuration, a real store and queue.

G10 of THREATS.md: what stands in sidecar.yaml is changed by somebody, too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import storage
from sidecar.clock import Clock
from sidecar.config.load import load_config
from sidecar.config.model import Config
from sidecar.config.told import told_of
from sidecar.ledger import config_record
from sidecar.ledger.chain import seal
from sidecar.ledger.config_record import NAMES_MAX, TOLD, ConfigRecord, difference
from sidecar.ledger.receipt import blank_receipt
from storage.errors import StoreFull
from storage.records import Answer, Entry, Recorded, Unrecordable
from storage.standing import AuditRow
from storage.watch_rows import WatchMemory
from storage.write_queue import WriteQueue

SECRETS = {f"S{number}": f"a-secret-of-24-characters-{number}" for number in range(9)}
SALT = b"s" * 32


def configured(folder: Path, tenants: dict[str, Any], default: str = "deny", **more: Any) -> Config:
    """A real file, read; secrets are `env:NAME` of this test's environment."""
    content: dict[str, Any] = {
        "default": default, "policies": "./policies", "tenants": tenants,
        "upstreams": {"up": {"url": "http://127.0.0.1:9"}}, **more,
    }  # fmt: skip
    (path := folder / "sidecar.yaml").write_text(json.dumps(content))
    (folder / "policies").mkdir(exist_ok=True)
    loaded = load_config(path, SECRETS, ())
    assert loaded.config is not None, loaded.problems
    return loaded.config


def agent(name: str = "S0", **more: Any) -> dict[str, Any]:
    return {"token": {"env": name}, **more}


def person(name: str = "S5", **more: Any) -> dict[str, Any]:
    return {"key": {"env": name}, "roles": ["viewer"], **more}


class Place:
    """A store on which sidecars start, one after the other or beside each other."""

    def __init__(self, folder: Path, store: storage.SqlStore, queue: WriteQueue) -> None:
        self.folder, self.store, self.queue = folder, store, queue
        #: Done before each entry is submitted.
        self.before_submit: list[Callable[[], Any]] = []

    async def submit(self, entry: Entry) -> Answer:
        if self.before_submit:
            answer = await self.before_submit.pop(0)()
            if isinstance(answer, Unrecordable):
                return answer
        return await self.queue.submit(entry)

    def record(self, config: Config, node: str = "n1") -> ConfigRecord:
        told = partial(told_of, config)
        return ConfigRecord(config.tenants, self.store, self, Clock(), node=node, told_of=told)

    async def start(self, tenants: dict[str, Any], *, node: str = "n1", **more: Any) -> None:
        await self.record(configured(self.folder, tenants, **more), node).loaded()

    async def events(self, tenant: str = "acme") -> list[AuditRow]:
        """What was told, oldest first; each as its receipt has it."""
        rows = (await self.store.audit_events(tenant, 2**62, 99))[::-1]
        for row in rows:
            assert (row.actor, row.action, row.subject) == (
                "sidecar", "config.load", "sidecar.yaml",
            )  # fmt: skip
            (receipt,) = await self.store.receipts(tenant, row.seq - 1, 1)
            assert (receipt.kind, receipt.action, receipt.approver) == (
                "control", row.action, row.actor,
            )  # fmt: skip
            facts = await self.store.call_facts(tenant, row.seq)
            assert facts is not None and json.loads(str(facts.arguments)) == {
                "subject": row.subject, "before": json.loads(row.before_state or "null"),
                "after": json.loads(row.after_state), "reason": row.reason,
            }  # fmt: skip
        return rows

    async def call(self, tenant: str = "acme") -> None:
        """A receipt, so that the tenant has a chain."""
        receipt = blank_receipt(tenant, "refusal", event_id="e", call_id="c", ts_us=1)
        assert isinstance(await self.queue.submit(Entry(receipt)), Recorded)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Place]:
    store = await storage.open_store(
        f"sqlite:///{folder / 'aegis.db'}", now_us=Clock().now_us, node_id="n1"
    )
    queue = WriteQueue(store, seal, capacity=64, wait_s=5, monotonic_ns=Clock().monotonic_ns)
    try:
        yield Place(folder, store, queue)
    finally:
        await queue.close()
        await store.close()


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path) as place:
        yield place


ONE = {"acme": {"agents": {"coder": agent(team="dev")}, "people": {"ana": person()}}}


async def test_g10_a_new_store_and_a_restart_with_the_same_leave_no_receipt(at: Place) -> None:
    for _ in range(3):
        await at.start(ONE)
    assert (await at.store.head("acme")).seq == 0
    assert await at.store.watch_memories("acme", ("", ""), 9) == [], "it is as empty as it was"


async def test_g10_another_configuration_is_told_by_name_before_and_after(at: Place) -> None:
    await at.start(ONE)
    two: dict[str, Any] = {
        "acme": {
            "agents": {"coder": agent("S1", team="dev"), "bot": agent("S0")},
            "people": {"bob": person("S6", groups=["leads"], roles=["approver", "admin"])},
        }
    }
    await at.start(two, default="observe")
    await at.start(two, default="observe")
    (row,) = await at.events()
    assert row.reason == (
        "agents added: bot; agents changed: coder; people added: bob; people removed: ana; "
        "default changed"
    )
    before, after = json.loads(row.before_state), json.loads(row.after_state)
    assert (before["default"], after["default"], after["node"]) == ("deny", "observe", "n1")
    assert (sorted(before["agents"]), sorted(after["agents"])) == (["coder"], ["bot", "coder"])
    assert (sorted(before["people"]), sorted(after["people"])) == (["ana"], ["bob"])
    was, became = before["agents"]["coder"], after["agents"]["coder"]
    assert [key for key in was if was[key] != became[key]] == ["token"]
    assert after["people"]["bob"]["roles"] == ["admin", "approver"]
    # There and back: what was told last is what counts, and the same secret is the same again.
    await at.start(ONE)
    first, back = await at.events()
    assert json.loads(back.before_state) == {key: after[key] for key in after if key != "node"}
    assert json.loads(back.after_state) == before | {"node": "n1"}
    assert first == row


async def test_g10_another_secret_is_seen_and_no_secret_is_told(at: Place) -> None:
    await at.start(ONE)
    changed = {"acme": {"agents": {"coder": agent(team="dev")}, "people": {"ana": person("S6")}}}
    await at.start(changed)
    (row,) = await at.events()
    assert row.reason == "people changed: ana"
    await at.store.close()
    held = b"".join(path.read_bytes() for path in at.folder.glob("aegis.db*"))
    assert b"config.load" in held, "positive control"
    assert not [one for one in SECRETS.values() if one.encode() in held]


def test_g10_two_who_share_a_secret_do_not_show_it(tmp_path: Path) -> None:
    people = {"ana": person("S5"), "bob": person("S6")}
    config = configured(tmp_path, {"acme": {"agents": {"coder": agent()}, "people": people}})
    shared = config.model_copy(
        update={"tenants": {"acme": config.tenants["acme"].model_copy(update={
            "people": dict.fromkeys(("ana", "bob"), config.tenants["acme"].people["ana"]),
        })}}
    )  # fmt: skip
    told = told_of(shared, "acme", SALT)
    keys = {told["people"]["ana"]["key"], told["people"]["bob"]["key"]}
    keys.add(told["agents"]["coder"]["token"])
    assert len(keys) == 3 and all(len(key) == 32 for key in keys)
    assert told_of(shared, "acme", b"t" * 32)["people"] != told["people"], "the salt counts"
    assert told_of(shared, "acme", SALT) == told
    assert told_of(shared, "nobody", SALT) == {}


async def test_g10_who_calls_without_a_credential_and_who_is_believed_is_told(at: Place) -> None:
    two = {"acme": {"agents": {"coder": agent(), "bot": {}}}}
    await at.start(two, identity={"default_agent": "acme/bot"})
    issuer = {
        "issuer": "https://id.example", "audience": "aegis", "jwks": "https://id.example/keys",
    }  # fmt: skip
    await at.start(two, identity={"default_agent": "acme/bot", "jwt": issuer})
    (row,) = await at.events()
    before, after = json.loads(row.before_state), json.loads(row.after_state)
    assert (row.reason, before["identity"]["issuers"]) == ("identity changed", [])
    assert before["identity"]["default_agent"] == "bot"
    assert after["identity"]["issuers"][0]["issuer"] == "https://id.example"
    assert after["identity"]["issuers"][0]["leeway_ms"] == 60_000
    assert "tenant" not in after["identity"]["issuers"][0], "nothing has changed by its being known"


def test_g1_the_issuer_of_another_tenant_is_not_told(tmp_path: Path) -> None:
    tenants = {name: {"agents": {"coder": {"jwt": "coder"}}} for name in ("acme", "rival")}
    issuers = [
        {"issuer": f"https://{name}.example", "audience": "aegis", "tenant": name,
         "jwks": "https://id.example/keys"}
        for name in tenants
    ]  # fmt: skip
    config = configured(tmp_path, tenants, identity={"jwt": issuers})
    for name in tenants:
        (told,) = told_of(config, name, SALT)["identity"]["issuers"]
        assert (told["issuer"], told["tenant"]) == (f"https://{name}.example", name)


async def test_g10_a_tenant_that_is_gone_is_told_by_the_node_that_served_it(at: Place) -> None:
    both = ONE | {"rival": {"agents": {"spy": agent("S1")}}}
    await at.start(both)
    await at.call("rival")
    await at.start(ONE, node="n2")
    assert await at.events("rival") == [], "another node may serve it"
    await at.start(ONE)
    await at.start(ONE)
    (row,) = await at.events("rival")
    assert row.reason == "agents removed: spy; default changed; identity changed"
    assert list(json.loads(row.before_state)["agents"]) == ["spy"]
    await at.start(both)
    assert len(await at.events("rival")) == 2, "and that it is back"
    assert await at.events("acme") == []


async def test_g10_what_cannot_be_recorded_is_not_served_and_told_at_the_next_start(
    at: Place,
) -> None:
    await at.start(ONE)

    async def full() -> None:
        raise StoreFull("planted")

    at.before_submit.append(full)
    with pytest.raises(StoreFull):
        await at.start(ONE, default="observe")
    assert await at.events() == []
    await at.start(ONE, default="observe")
    assert [row.reason for row in await at.events()] == ["default changed"]


async def test_of_two_nodes_that_tell_at_once_each_compares_with_what_stands(at: Place) -> None:
    await at.start(ONE)

    async def another() -> None:
        await at.start(ONE, node="n2", default="observe")

    at.before_submit.append(another)
    await at.start(ONE, default="observe")
    assert [json.loads(row.after_state)["node"] for row in await at.events()] == ["n2"]


async def test_a_chain_that_takes_nothing_keeps_nobody_else_from_being_served(
    at: Place, caplog: pytest.LogCaptureFixture
) -> None:
    both = ONE | {"rival": {"agents": {"spy": agent("S1")}}}
    await at.start(both)

    async def odd() -> Unrecordable:
        return Unrecordable("planted")

    at.before_submit += [odd] * config_record.TRIES_MAX
    await at.start(both, default="observe")
    assert "what is configured cannot be recorded" in caplog.text
    assert await at.events("acme") == []
    assert len(await at.events("rival")) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"salt":"zz","node":"","state":{}}',
                                  '{"salt":"00","node":"n1","state":{"agents":[]}}'])  # fmt: skip
async def test_what_cannot_be_read_is_told_anew(at: Place, text: str) -> None:
    await at.start(ONE)
    await at.start(ONE, default="observe")
    row = WatchMemory("acme", TOLD, "sidecar.yaml", 2, text, 2**62)
    assert await at.store.put_rows("acme", [row])
    await at.start(ONE, default="observe")
    await at.start(ONE, default="observe")
    _, told = await at.events()
    assert told.before_state == ""
    assert list(json.loads(told.after_state)["agents"]) == ["coder"]


async def test_what_was_told_is_never_forgotten(at: Place) -> None:
    await at.start(ONE)
    await at.start(ONE, default="observe")
    assert await at.store.forget_memories("acme", Clock().now_us() + 10**17) == 0
    await at.start(ONE, default="observe")
    assert len(await at.events()) == 1


def test_very_many_names_stand_in_before_and_after_and_some_in_the_sentence() -> None:
    now = {"agents": {f"a{number:03}": {} for number in range(NAMES_MAX + 5)}}
    found = difference({}, now)
    assert found is not None
    assert found.words.startswith("agents added: a000, a001, ")
    assert found.words.endswith("a019 and 5 more")
    assert found.after == now and found.before == {"agents": {}}
    assert difference(now, now) is None
