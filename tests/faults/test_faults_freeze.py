"""An agent frozen at one of two nodes on one PostgreSQL: at the other nothing of it goes ahead that
is recorded after the freeze, whatever that node knows; and it knows within a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "unit" / room) for room in ("identity", "ledger")]

from identity_setup import TOKEN, configured
from ledger_setup import call, decision

from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.errors import Refused
from sidecar.identity.agent_states import Move
from sidecar.identity.callers import Callers, made_callers
from sidecar.identity.profiles import KeyProfile
from sidecar.identity.tokens import sha256_of
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.ledger.recorder import Intent, Recorder
from sidecar.model import AgentState, Principal, Role
from sidecar.policy.catalogue import Catalogue
from sidecar.proxy.open_streams import OpenStreams
from sidecar.telemetry.counters import Counters
from storage import open_store
from storage.records import Recorded, Stale
from storage.sql_store import SqlStore
from storage.write_queue import WriteQueue


class TakesOver(Recorder):
    """The planted fault: the epoch of every answer guards the next intent, as it once was."""

    heard = 0

    async def intent(self, principal: Principal, *given: Any, **more: Any) -> Any:
        answer = await super().intent(replace(principal, epoch=self.heard), *given, **more)
        if isinstance(answer, Stale):
            self.heard = answer.epoch
        return answer


@dataclass
class Node:
    """One process among several, as far as callers and the record go."""

    store: SqlStore
    queue: WriteQueue
    callers: Callers
    recorder: Recorder

    def coder(self) -> Principal:
        found = self.callers.registry.by_token(sha256_of(TOKEN))
        assert found is not None
        return found

    async def called(self, caller: Principal | None = None) -> Intent | Stale:
        """What comes of recording a call of the agent, as this node knows it."""
        intended = call(Clock().new_id())
        answer = await self.recorder.intent(caller or self.coder(), intended, decision())
        assert isinstance(answer, Intent | Stale)
        if isinstance(answer, Intent):
            answer.slot.release()
        return answer

    async def decided_again(self) -> Intent | Refused:
        """As the path of a call does it: a stale record leads to another look at the caller."""
        caller = self.coder()
        for _ in range(8):
            answer = await self.called(caller)
            if isinstance(answer, Intent):
                return answer
            self.callers.registry.is_behind(caller.tenant, answer.epoch)
            try:
                caller = await self.callers.registry.again(caller)
            except Refused as refused:
                return refused
        raise AssertionError("it kept changing")


@asynccontextmanager
async def node(
    config: Config, url: str, name: str, *, watches: bool = False, kind: type[Recorder] = Recorder
) -> AsyncIterator[Node]:
    clock, fence = Clock(), Fence()
    store = await open_store(url, now_us=clock.now_us, node_id=name)
    queue = WriteQueue(store, seal, capacity=256, wait_s=5, monotonic_ns=clock.monotonic_ns)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        stack.push_async_callback(queue.close)
        callers = await made_callers(
            stack, config, clock, store, queue, fence, lambda: Catalogue({}, {}, {}, ())
        )
        if watches:
            watch = asyncio.ensure_future(callers.registry.watch())
            stack.callback(watch.cancel)
        recorder = kind(queue, clock, node_id=name, boot_id=name, redact=dict)
        yield Node(store, queue, callers, recorder)


async def intents_after_the_freeze(store: SqlStore) -> int:
    rows = await store.receipts("acme", 0, 10_000)
    (frozen,) = [row.seq for row in rows if row.action == "agent.freeze"]
    return sum(row.kind == "intent" and row.seq > frozen for row in rows)


async def test_a_node_that_has_not_heard_of_a_freeze_records_nothing_of_the_agent(
    tmp_path: Path, url: str
) -> None:
    config = configured(tmp_path)
    async with node(config, url, "one") as one, node(config, url, "other") as other:
        assert isinstance(await other.called(), Intent), "positive control"
        await one.callers.changes.move("acme", "coder", Move.FREEZE, actor="socket:ana")
        assert other.coder().state is AgentState.ACTIVE, "it has not heard"
        for _ in range(5):
            # Others' answers bring the epoch along; a caller looked up before is none the newer.
            tester = other.callers.registry.agent("acme", "tester")
            assert tester is not None
            assert isinstance(await other.called(replace(tester, epoch=1)), Intent)
            assert isinstance(await other.called(other.coder()), Stale)
        refused = await other.decided_again()
        assert isinstance(refused, Refused) and refused.code == "agent_frozen"
        rows = await one.store.receipts("acme", 0, 100)
        assert [row.agent_id for row in rows if row.kind == "intent"] == ["coder"] + ["tester"] * 5


async def test_planted_a_recorder_that_takes_over_epochs_is_caught(
    tmp_path: Path, url: str
) -> None:
    """With the fault the frozen agent's second try goes ahead: what the test above looks for."""
    config = configured(tmp_path)
    async with node(config, url, "one") as one, node(config, url, "other", kind=TakesOver) as other:
        await one.callers.changes.move("acme", "coder", Move.FREEZE, actor="socket:ana")
        assert isinstance(await other.called(), Stale)
        assert isinstance(await other.called(), Intent)
        assert await intents_after_the_freeze(one.store) == 1


async def test_no_call_is_recorded_after_the_freeze_however_many_are_in_flight(
    tmp_path: Path, url: str
) -> None:
    config = configured(tmp_path)
    async with (
        node(config, url, "one", watches=True) as one,
        node(config, url, "other", watches=True) as other,
    ):
        went_ahead = 0
        is_over = False

        async def keeps_calling(at: Node) -> None:
            nonlocal went_ahead
            while not is_over:
                if at.coder().state is not AgentState.ACTIVE:
                    await asyncio.sleep(0.01)
                    continue
                answer = await at.decided_again()
                went_ahead += isinstance(answer, Intent)

        crowd = [asyncio.ensure_future(keeps_calling(at)) for at in (one, other) for _ in range(8)]
        await asyncio.sleep(0.5)
        await one.callers.changes.move("acme", "coder", Move.FREEZE, actor="socket:ana")
        began = time.monotonic()
        while other.coder().state is not AgentState.FROZEN:
            await asyncio.sleep(0.01)
        took_s = time.monotonic() - began
        await asyncio.sleep(0.3)
        is_over = True
        await asyncio.gather(*crowd)
        assert went_ahead > 20, "positive control"
        assert await intents_after_the_freeze(one.store) == 0
        assert took_s < 1


async def test_a_quiet_node_hears_of_every_change_within_a_second(tmp_path: Path, url: str) -> None:
    config = configured(tmp_path)
    async with node(config, url, "one") as one, node(config, url, "other", watches=True) as other:
        changes, slowest_s = one.callers.changes, 0.0
        for move, state in (
            (Move.FREEZE, AgentState.FROZEN),
            (Move.UNFREEZE, AgentState.ACTIVE),
            (Move.QUARANTINE, AgentState.QUARANTINED),
            (Move.RESTORE, AgentState.ACTIVE),
        ):
            await changes.move("acme", "coder", move, actor="t")
            began = time.monotonic()
            while other.coder().state is not state:
                assert time.monotonic() - began < 1
                await asyncio.sleep(0.005)
            slowest_s = max(slowest_s, time.monotonic() - began)
        reads = other.callers.registry.reads_total
        await asyncio.sleep(0.6)
        assert other.callers.registry.reads_total == reads, "what has not changed is not read"
        key = await changes.make_key("acme", KeyProfile("ci", frozenset({Role.VIEWER})), actor="t")
        await asyncio.sleep(0.6)
        assert await other.callers.doorman.person(f"Bearer {key.key}", "10.0.0.1") is not None
        await changes.revoke_key("acme", key.key_id, actor="t")
        await asyncio.sleep(0.6)
        assert await other.callers.doorman.person(f"Bearer {key.key}", "10.0.0.1") is None


async def test_what_is_open_at_another_node_ends_within_a_second(tmp_path: Path, url: str) -> None:
    config = configured(tmp_path)
    async with node(config, url, "one") as one, node(config, url, "other", watches=True) as other:
        streams, coder = OpenStreams(other.callers.registry, Counters()), other.coder()

        async def endless() -> None:
            async with streams.cut_for(coder):
                await asyncio.sleep(60)

        stream = asyncio.ensure_future(endless())
        await one.callers.changes.move("acme", "tester", Move.FREEZE, actor="t")
        await asyncio.sleep(0.6)
        assert not stream.done(), "positive control: somebody else was frozen"
        began = time.monotonic()
        await one.callers.changes.move("acme", "coder", Move.FREEZE, actor="t")
        with pytest.raises(Refused) as cut:
            await stream
        assert cut.value.code == "agent_frozen" and time.monotonic() - began < 1
        with pytest.raises(Refused):
            await endless()


async def test_a_node_that_hears_nothing_lets_no_revoked_key_in(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watch stands still: what it knows is too old to read by, and it looks for itself."""
    from sidecar.identity import doorman

    monkeypatch.setattr(doorman, "AGE_MAX_S", 0.2)
    config = configured(tmp_path)
    async with node(config, url, "one") as one, node(config, url, "other") as other:
        changes = one.callers.changes
        key = await changes.make_key("acme", KeyProfile("ci", frozenset({Role.VIEWER})), actor="t")
        await asyncio.sleep(0.3)
        assert await other.callers.doorman.person(f"Bearer {key.key}", "10.0.0.1") is not None
        await changes.revoke_key("acme", key.key_id, actor="t")
        await asyncio.sleep(0.3)
        assert await other.callers.doorman.person(f"Bearer {key.key}", "10.0.0.1") is None


async def test_changes_at_two_nodes_at_once_are_each_made_on_what_the_other_left(
    tmp_path: Path, url: str
) -> None:
    config = configured(tmp_path)
    async with node(config, url, "one") as one, node(config, url, "other") as other:
        made = await asyncio.gather(
            *(at.callers.changes.rotate_token("acme", "tester", actor="t")
              for _ in range(2) for at in (one, other))
        )  # fmt: skip
        assert sorted(each.seq or 0 for each in made) == [1, 2, 3, 4]
        (row,) = [row for row in await one.store.agents("acme") if row.agent_id == "tester"]
        assert row.version == 4
        assert isinstance(await one.decided_again(), Intent)
        assert not isinstance(await other.decided_again(), Recorded)
