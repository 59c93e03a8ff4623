"""Which policies are in force is on record before they are: real files, a real store, a real queue.

G10 and D3 of THREATS.md: a change of the policies is an audit event, and so is a refused one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence, Standing
from sidecar.ledger.policy_record import OWED_MAX, PolicyRecord
from sidecar.ledger.receipt import blank_receipt
from sidecar.policy.in_force import InForce
from sidecar.policy.load import load_policies
from sidecar.policy_files import PolicyKeeper
from storage.errors import QueueFull, StoreUnavailable
from storage.records import Answer, Entry, Recorded, Unrecordable
from storage.standing import AuditRow
from storage.write_queue import WriteQueue

POLICY = 'policy: p\nrules:\n  - {{id: {rule}, effect: deny, tools: "*"}}\n'


@dataclass
class Place:
    """A keeper over a folder, and what its record is written by."""

    folder: Path
    store: storage.SqlStore
    queue: WriteQueue
    fence: Fence
    keeper: PolicyKeeper
    #: Raised instead of submitting, while there is any.
    fails: list[BaseException]
    tenants: tuple[str, ...] = ("acme", "rival")

    def write(self, rule: str) -> None:
        (self.folder / "policies" / "p.yaml").write_text(POLICY.format(rule=rule))

    def spoil(self, text: str = "policy: [") -> None:
        (self.folder / "policies" / "p.yaml").write_text(text)

    async def submit(self, entry: Entry) -> Answer:
        if self.fails:
            raise self.fails.pop(0)
        return await self.queue.submit(entry)

    async def events(self, tenant: str = "acme") -> list[AuditRow]:
        return list(reversed(await self.store.audit_events(tenant, 2**62, 100)))

    async def told(self, tenant: str = "acme") -> list[tuple[str, str, str, str]]:
        """Action, actor, revision before and after, in order."""
        return [
            (one.action, one.actor, _revision(one.before_state), _revision(one.after_state))
            for one in await self.events(tenant)
        ]

    async def call(self, revision: str, tenant: str = "acme") -> None:
        """A receipt of a call that this set decided."""
        receipt = blank_receipt(
            tenant, "refusal", event_id=Clock().new_id(), call_id="c", ts_us=1, agent_id="coder"
        )._replace(policy_revision=revision)
        assert isinstance(await self.queue.submit(Entry(receipt)), Recorded)


def _revision(text: str) -> str:
    return str(json.loads(text)["revision"]) if text else ""


@asynccontextmanager
async def place(folder: Path, *, node: str = "n1") -> AsyncIterator[Place]:
    """As a sidecar starts: files are loaded, then the store opens."""
    (folder / "policies").mkdir(exist_ok=True)
    clock, fence = Clock(), Fence()
    load = partial(load_policies, upstreams={}, default="deny")
    keeper = PolicyKeeper([str(folder / "policies")], folder, load, clock)
    if not (folder / "policies" / "p.yaml").exists():
        (folder / "policies" / "p.yaml").write_text(POLICY.format(rule="first"))
    keeper.load_first()
    store = await storage.open_store(
        f"sqlite:///{folder / 'aegis.db'}", now_us=clock.now_us, node_id=node
    )
    queue = WriteQueue(store, seal, capacity=64, wait_s=5, monotonic_ns=Clock.monotonic_ns)
    made = Place(folder, store, queue, fence, keeper, [])
    record = PolicyRecord(made.tenants, store, made, clock, fence, node=node)
    try:
        await keeper.record_by(record)
        yield made
    finally:
        await queue.close()
        await store.close()


async def test_g10_a_changed_set_is_on_record_of_every_tenant_before_it_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as at:
        first = at.keeper.current.revision
        assert await at.events() == [], "of a new store each receipt says which set decided"
        at.write("second")
        in_force: list[str] = []
        real = at.queue.submit

        async def watched(entry: Entry) -> Answer:
            in_force.append(at.keeper.current.revision)
            answer = await real(entry)
            in_force.append(at.keeper.current.revision)
            return answer

        monkeypatch.setattr(at.queue, "submit", watched)
        assert (await at.keeper.reload("socket:ana")).succeeded
        second = at.keeper.current.revision
        assert second != first and set(in_force) == {first} and len(in_force) == 4
        for tenant in at.tenants:
            assert await at.told(tenant) == [("policy.load", "socket:ana", first, second)]
        (event,) = await at.events()
        assert json.loads(event.after_state) == {
            "revision": second, "detections": "", "rules": 1, "node": "n1",
        }  # fmt: skip
        (receipt,) = await at.store.receipts("acme", 0, 9)
        assert (receipt.kind, receipt.action, receipt.approver, receipt.policy_revision) == (
            "control", "policy.load", "socket:ana", second,
        )  # fmt: skip
        assert (await at.keeper.reload("socket:ana")).succeeded
        assert len(await at.events()) == 1, "in force already: nothing has changed"


async def test_g10_a_change_that_the_files_tell_of_is_the_sidecars(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first = at.keeper.current.revision
        at.write("second")
        assert not await at.keeper.poll()
        assert await at.keeper.poll()
        assert await at.told() == [("policy.load", "sidecar", first, at.keeper.current.revision)]
        assert (await at.events())[0].reason == "the files changed"


async def test_d3_a_broken_set_is_refused_on_record_once(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        stays = at.keeper.current.revision
        at.spoil()
        for _ in range(5):
            await at.keeper.poll()
        for tenant in at.tenants:
            assert await at.told(tenant) == [("policy.refuse", "sidecar", stays, stays)]
        (event,) = await at.events()
        assert json.loads(event.after_state)["problems"] == len(at.keeper.problems) == 1
        assert at.keeper.current.revision == stays
        assert "policy: [" not in event.after_state + event.reason, "nothing of the text"
        at.write("second")
        assert (await at.keeper.reload("socket:ana")).succeeded
        assert [one[0] for one in await at.told()] == ["policy.refuse", "policy.load"]


async def test_a_set_that_cannot_be_put_on_record_is_not_in_force(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first, failures = at.keeper.current.revision, at.keeper.failures
        at.write("second")
        at.fails += [StoreUnavailable("the disk is full")]
        said = await at.keeper.reload("socket:ana")
        assert not said.succeeded and at.keeper.current.revision == first
        assert "cannot be put on record" in str(at.keeper.problems[0])
        assert "the disk is full" in str(at.keeper.problems[0])
        assert not at.keeper.reload_succeeded and at.keeper.failures == failures + 1
        # It is tried again by itself, though the files have not changed since.
        assert [await at.keeper.poll(), await at.keeper.poll()] == [False, True]
        second = at.keeper.current.revision
        assert second != first and at.keeper.reload_succeeded and at.keeper.problems == ()
        for tenant in at.tenants:
            assert [one[2:] for one in await at.told(tenant)] == [(first, second)], "told once"


async def test_what_was_told_and_did_not_come_is_told_too(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first = at.keeper.current.revision
        at.write("second")
        at.fails += [StoreUnavailable("gone")]  # for `acme` only: `rival` is told of the second
        await at.keeper.reload("socket:ana")
        at.write("first")
        assert (await at.keeper.reload("socket:ana")).succeeded
        assert at.keeper.current.revision == first
        assert await at.told("acme") == []
        (wrong, corrected) = await at.told("rival")
        assert wrong[3] == corrected[2] != first and corrected[3] == first


async def test_a_change_while_nothing_ran_is_on_record_when_it_starts(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first = at.keeper.current.revision
        await at.call(first)
    async with place(tmp_path) as at:
        assert await at.events() == [], "positive control: nothing has changed"
    (tmp_path / "policies" / "p.yaml").write_text(POLICY.format(rule="second"))
    async with place(tmp_path) as at:
        second = at.keeper.current.revision
        assert await at.told() == [("policy.load", "sidecar", first, second)]
        assert await at.told("rival") == [], "nothing was decided there yet"
    (tmp_path / "policies" / "p.yaml").write_text(POLICY.format(rule="third"))
    async with place(tmp_path, node="n2") as at:
        assert (await at.told())[1:] == [
            ("policy.load", "sidecar", second, at.keeper.current.revision)
        ]
    async with place(tmp_path, node="n3") as at:
        assert len(await at.told()) == 2, "another node has told it"


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), QueueFull("full")])
async def test_what_a_start_cannot_tell_it_tells_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with place(tmp_path) as at:
        await at.call("f" * 32)

        async def fails(*_: object, **__: object) -> list[AuditRow]:
            raise error

        record = PolicyRecord(at.tenants, at.store, at, Clock(), at.fence, node="n1")
        with monkeypatch.context() as patched:
            patched.setattr(at.store, "audit_events", fails)
            await at.keeper.record_by(record)
        assert await at.events() == []
        await at.keeper.poll()
        assert await at.told() == [("policy.load", "sidecar", "f" * 32, at.keeper.current.revision)]


async def test_behind_a_fence_nothing_changes(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        first = at.keeper.current.revision
        at.write("second")
        at.fence.stand(Standing("f1", "postgresql://b", "a move", 1))
        said = await at.keeper.reload("socket:ana")
        assert not said.succeeded and "store_fenced" in str(at.keeper.problems[0])
        assert at.keeper.current.revision == first and await at.events() == []
        at.fence.lift()
        assert (await at.keeper.reload("socket:ana")).succeeded and len(await at.events()) == 1


async def test_refusals_wait_for_the_store_and_not_for_ever(tmp_path: Path) -> None:
    async with place(tmp_path) as at:
        for number in range(OWED_MAX + 2):
            at.spoil(f"policy: [{number}")
            at.fails += [StoreUnavailable("gone")]
            assert not (await at.keeper.reload("socket:ana")).succeeded
            at.fails.clear()
        assert await at.events() == []
        at.write("second")
        assert (await at.keeper.reload("socket:ana")).succeeded
        for tenant in at.tenants:
            actions = [one[0] for one in await at.told(tenant)]
            assert sorted(actions) == ["policy.load"] + ["policy.refuse"] * OWED_MAX


async def test_a_tenant_whose_chain_takes_nothing_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as at:
        at.write("second")
        real = at.queue.submit

        async def only_rival(entry: Entry) -> Answer:
            is_rival = entry.receipt.tenant_id == "rival"
            return await real(entry) if is_rival else Unrecordable("its head is broken")

        monkeypatch.setattr(at.queue, "submit", only_rival)
        assert (await at.keeper.reload("socket:ana")).succeeded
        assert len(await at.told("rival")) == 1 and await at.told("acme") == []
        (told,) = (one for one in caplog.records if "cannot be recorded" in one.message)
        assert vars(told)["cause"] == "its head is broken", "in words, not as an object of Python"


async def test_a_fault_of_the_look_is_told_and_ends_with_the_next_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as at:
        monkeypatch.setattr("sidecar.policy_files.POLL_S", 0.01)

        def broken(*_: object) -> None:
            raise RuntimeError("a fault of ours")

        with monkeypatch.context() as patched:
            patched.setattr(at.keeper, "_look", broken)
            looking = asyncio.ensure_future(at.keeper.run())
            while at.keeper.reload_succeeded:
                await asyncio.sleep(0.01)
            assert "looking at the files failed inside the sidecar: RuntimeError" in str(
                at.keeper.problems[0]
            )
        while not at.keeper.reload_succeeded:
            await asyncio.sleep(0.01)
        looking.cancel()
        assert at.keeper.problems == () and await at.events() == []


def test_what_an_auditor_reads_is_compared_by_both_revisions() -> None:
    now = InForce("r1", "d1", 3)
    assert now.is_as(now.shown() | {"node": "n2", "rules": 4})
    assert not now.is_as(now.shown() | {"detections": "d2"})
    assert not now.is_as(now.shown() | {"revision": "r2"})
    assert not now.is_as(None) and not now.is_as({})
