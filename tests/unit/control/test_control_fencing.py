"""The fence of a sidecar over control.sock: when it stands, and what it holds up."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from control_setup import Setup, control_plane

import storage
from sidecar.cli.control_client import Unreachable, ask_at
from sidecar.control.fencing import Fencing
from sidecar.control.readiness import Readiness
from sidecar.control.socket import NAME, ControlSocket
from sidecar.errors import Refused
from sidecar.ledger.fence import Fence
from sidecar.ledger.recorder import Recorder
from sidecar.local_users import user_name
from sidecar.model import Principal
from storage.errors import StoreFull
from storage.marks import FenceMark, Marks, Told
from storage.retention import CareReader
from storage.standing import AuditRow

TARGET = "postgresql://aegis@db/aegis"


class Plane:
    """A control plane whose store can be fenced over its socket."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup = setup
        self.where = folder / NAME
        self.fence = Fence()
        self.beside = SimpleNamespace(is_recovering=False)
        self.marks: Any = Marks(setup.store)
        self.fencing = self.new_fencing(self.marks)
        setup.state.fencing = self.fencing

    def new_fencing(self, marks: Any) -> Fencing:
        return Fencing(
            self.fence, queue=self.setup.queue, marks=marks, clock=self.setup.clock,
            node_id="n1", tenants=["default"], wait_s=5.0, beside=self.beside,
        )  # fmt: skip

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer, or the code of a refusal."""
        try:
            return await asyncio.to_thread(ask_at, self.where, method, path, body)
        except Unreachable as error:
            return error.code


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path) as setup:
        plane = Plane(setup, tmp_path)
        control = ControlSocket(tmp_path, setup.state)
        await control.start()
        try:
            yield plane
        finally:
            await control.stop()


async def test_a_fence_is_raised_once_put_on_record_and_lifted(plane: Plane) -> None:
    said = await plane.ask("POST", "/fence", {"target": TARGET, "reason": "store move"})
    assert (said["is_new"], said["is_moved"], said["node_id"]) == (True, False, "n1")
    mark = await plane.marks.fence()
    assert mark is not None
    assert (mark.fence_id, mark.target, mark.node_id) == (said["fence_id"], TARGET, "n1")
    again = await plane.ask("POST", "/fence", {"target": TARGET})
    assert (again["is_new"], again["fence_id"]) == (False, said["fence_id"])
    assert await plane.ask("POST", "/fence", {"target": "elsewhere"}) == "fence_for_another"
    assert plane.fence.is_up
    assert await plane.ask("DELETE", "/fence") == {"lifted": True}
    assert await plane.ask("DELETE", "/fence") == {"lifted": False}
    assert not plane.fence.is_up
    assert await plane.marks.fence() is None


async def test_g10_who_fences_and_who_lifts_is_on_record_with_why(plane: Plane) -> None:
    """In each chain, in the transaction of the mark; never with a password."""
    store, secret = plane.setup.store, "postgresql://aegis:hunter2@db/aegis"
    said = await plane.ask("POST", "/fence", {"target": secret, "reason": "store move"})
    assert [row.action for row in await store.audit_events("default", 9, 9)] == ["store.fence"]
    assert (await plane.ask("POST", "/fence", {"target": secret}))["is_new"] is False
    assert await plane.ask("DELETE", "/fence", {"reason": "not today"}) == {"lifted": True}
    assert await plane.ask("DELETE", "/fence") == {"lifted": False}
    lifted, fenced = await store.audit_events("default", 9, 9)
    who = f"socket:{user_name(os.geteuid())}"
    stands = {
        "fenced": True, "fence_id": said["fence_id"], "node": "n1",
        "target": "postgresql://aegis:***@db/aegis",
    }  # fmt: skip
    assert [
        (row.actor, row.action, json.loads(row.before_state), json.loads(row.after_state),
         row.reason)
        for row in (fenced, lifted)
    ] == [
        (who, "store.fence", {"fenced": False}, stands, "store move"),
        (who, "store.unfence", stands, {"fenced": False}, "not today"),
    ]  # fmt: skip
    for row in (fenced, lifted):
        await assert_committed(store, row)


async def test_g10_what_cannot_be_put_on_record_neither_fences_nor_lifts(plane: Plane) -> None:
    """The mark stands or falls with what is told of it."""
    store, asked = plane.setup.store, {"target": TARGET}

    async def is_fenced() -> bool:
        return await plane.marks.fence() is not None

    with failing_commits(store):
        assert await plane.ask("POST", "/fence", asked) == "store_full"
    assert (plane.fence.is_up, await is_fenced()) == (False, False)
    assert (await plane.ask("POST", "/fence", asked))["is_new"]
    with failing_commits(store):
        assert await plane.ask("DELETE", "/fence") == "store_full"
    assert (plane.fence.is_up, await is_fenced()) == (True, True)
    assert await plane.ask("DELETE", "/fence") == {"lifted": True}
    actions = [row.action for row in await store.audit_events("default", 9, 9)]
    assert (actions, await is_fenced()) == (["store.unfence", "store.fence"], False)


@pytest.mark.parametrize("name", ["target", "reason"])
async def test_a_fence_for_what_no_record_can_hold_is_refused(plane: Plane, name: str) -> None:
    asked = {"target": TARGET, "reason": "why"}
    assert await plane.ask("POST", "/fence", asked | {name: "\ud800"}) == "malformed_request"
    assert not plane.fence.is_up
    assert (await plane.ask("POST", "/fence", asked))["is_new"], "positive control"
    assert await plane.ask("DELETE", "/fence", {"reason": "\ud800"}) == "malformed_request"
    assert plane.fence.is_up


async def assert_committed(store: storage.SqlStore, row: AuditRow) -> None:
    """The receipt names who acted, and commits to what was before, what is now and why."""
    (receipt,) = await store.receipts("default", row.seq - 1, 1)
    (facts,) = await CareReader(store).facts("default", row.seq - 1, row.seq)
    assert (receipt.kind, receipt.approver, receipt.action) == ("control", row.actor, row.action)
    arguments = str(facts.arguments)
    commitment = hmac.digest(bytes.fromhex(facts.salt), arguments.encode(), "sha256").hex()
    assert receipt.args_commitment == commitment
    assert json.loads(arguments) == {
        "subject": row.subject, "before": json.loads(row.before_state),
        "after": json.loads(row.after_state), "reason": row.reason,
    }  # fmt: skip


@contextlib.contextmanager
def failing_commits(store: storage.SqlStore) -> Iterator[None]:
    """Nothing can be sealed, after whatever else the transaction did."""

    def full(*_: Any) -> Any:
        raise StoreFull("planted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sidecar.control.fencing.seal", full)
        yield


async def test_only_the_fence_that_stands_can_end_in_a_move(plane: Plane) -> None:
    first = await plane.ask("POST", "/fence", {"target": TARGET})
    await plane.ask("DELETE", "/fence")
    assert await plane.ask("POST", "/fence/moved", {"fence_id": first["fence_id"]}) == "fence_gone"
    second = await plane.ask("POST", "/fence", {"target": TARGET})
    assert await plane.ask("POST", "/fence/moved", {"fence_id": first["fence_id"]}) == "fence_gone"
    assert await plane.marks.moved_to() is None
    for _ in range(2):
        said = await plane.ask("POST", "/fence/moved", {"fence_id": second["fence_id"]})
        assert said["is_moved"]
    assert (await plane.marks.moved_to(), await plane.marks.fence()) == (TARGET, None)
    assert await plane.ask("DELETE", "/fence") == "store_moved"
    assert await plane.ask("POST", "/fence", {"target": "elsewhere"}) == "store_moved"
    assert plane.fence.refused().code == "store_moved"
    assert "restart the sidecar" in plane.fence.sentence()


@pytest.mark.parametrize("body", [{}, {"target": 1}, {"target": TARGET, "wait_s": "long"}])
async def test_a_request_that_names_no_target_is_refused(
    plane: Plane, body: dict[str, Any]
) -> None:
    assert await plane.ask("POST", "/fence", body) == "malformed_request"
    assert not plane.fence.is_up


async def test_a_fence_does_not_stand_while_a_call_is_in_flight_or_a_node_is_recovered(
    plane: Plane,
) -> None:
    slot = plane.setup.queue.reserve()
    asked = {"target": TARGET, "wait_s": 0.1}
    assert await plane.ask("POST", "/fence", asked) == "fence_calls_open"
    assert not plane.fence.is_up
    slot.release()
    plane.beside.is_recovering = True
    assert await plane.ask("POST", "/fence", asked) == "fence_calls_open"
    assert await plane.marks.fence() is None
    waiting = asyncio.ensure_future(plane.ask("POST", "/fence", {"target": TARGET}))
    await asyncio.sleep(0.1)
    assert plane.fence.is_up and not waiting.done(), "refuses calls already, does not stand yet"
    plane.beside.is_recovering = False
    assert (await waiting)["is_new"]


async def test_a3_a_fence_that_cannot_be_put_on_record_does_not_stand(plane: Plane) -> None:
    async def full(mark: FenceMark, told: Told) -> None:
        raise StoreFull("planted")

    plane.fencing._marks = SimpleNamespace(put_fence=full)
    assert await plane.ask("POST", "/fence", {"target": TARGET}) == "store_full"
    assert not plane.fence.is_up


async def test_nothing_is_written_behind_a_fence(plane: Plane) -> None:
    """Refusals are counted and not recorded, also one that was under way; nothing is probed."""
    setup, probes = plane.setup, []

    async def probe() -> None:
        probes.append(1)

    readiness = Readiness(
        setup.queue, setup.policies, probe=probe, monotonic_ns=setup.clock.monotonic_ns,
        fence=plane.fence,
    )  # fmt: skip
    recorder = Recorder(
        setup.queue, setup.clock, node_id="n1", boot_id="b1", redact=lambda args: args,
        fence=plane.fence,
    )  # fmt: skip
    caller = Principal(tenant="default", agent="a")
    refusal = {"upstream": "github", "action": "POST", "refused": Refused("invalid_json")}

    async def refuse() -> None:
        await recorder.refusal(caller, call_id=setup.clock.new_id(), call=None, **refusal)  # type: ignore[arg-type]

    await refuse()
    assert (await setup.store.head("default")).seq == 1, "positive control"
    under_way = asyncio.ensure_future(refuse())
    recorder.refusal_unheard(caller, call_id=setup.clock.new_id(), **refusal)  # type: ignore[arg-type]
    await plane.fencing.stand(target=TARGET, reason="", wait_s=None, actor="socket:ana")
    await under_way
    await refuse()
    seq = (await setup.store.head("default")).seq - 1  # the receipt of the fence itself
    assert seq + recorder.unrecorded_refusals == 4
    assert recorder.unrecorded_refusals >= 1
    assert await readiness.reasons() == ["fenced: the store is being moved, or was"]
    assert probes == []
    await plane.fencing.lift(actor="socket:ana", reason="")
    assert await readiness.reasons() == []
