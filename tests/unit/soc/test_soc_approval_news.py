"""Approvals tell of themselves: in their own transaction, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import storage
from sidecar.approvals.asked import Asked
from sidecar.approvals.changes import Changes
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.approvals.service import Approvals, Asking
from sidecar.approvals.states import Term
from sidecar.clock import Clock
from sidecar.config.identity_model import ConfiguredPerson, Tenant
from sidecar.config.model import Approvals as Settings
from sidecar.config.model import Secret, Sink
from sidecar.control.approval_news import ApprovalNews, approval_addition
from sidecar.control.console.page import PREFIX
from sidecar.control.console.table import PAGES
from sidecar.errors import Refused
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence
from sidecar.model import Person, Role
from sidecar.soc.deliveries import Told
from sidecar.soc.model import Severity
from storage import SqlStore
from storage.records import AFTER_ALL_IDS
from storage.watch_rows import DeliveryRow
from storage.write_queue import WriteQueue

ANA = Person("acme", "ana", "person:ana", frozenset({Role.APPROVER}))
BOB = Person("acme", "bob", "person:bob", frozenset({Role.APPROVER}))
TEXT = json.dumps({"agent": "coder", "tool": "shop/buy", "reason": "buys tea", "method": "POST",
                   "path": "/buy", "arguments": {"what": "tea"}, "rules": ["p/asks"]})  # fmt: skip
ASKED = Asked(TEXT, sha256(TEXT.encode()).hexdigest())


@dataclass
class Desk:
    store: SqlStore
    approvals: Approvals
    rings: list[int]

    async def ask(self, action: str = "a" * 64, quorum: int = 1, life_us: int = 10**9) -> str:
        """A call asks and is not held; the approval's id."""
        clock = Clock()

        async def tell(_: object) -> None:
            pass

        asking = Asking(
            "acme", "coder", "", clock.new_id(), "shop/buy", action, ASKED,
            (Term("p/asks", "h", (), quorum),), life_us, clock.monotonic_ns(), tell,
        )  # fmt: skip
        with pytest.raises(Refused) as refused:
            await self.approvals.hold(asking)
        return str(refused.value.more["approval"])

    async def told(self) -> list[DeliveryRow]:
        rows = await self.store.deliveries_before("acme", AFTER_ALL_IDS, 99)
        return sorted(rows, key=lambda row: (row.created_us, row.sink))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock, rings = Clock(), []  # type: ignore[var-annotated]
    store = await storage.open_store(
        f"sqlite:///{tmp_path}/a.db", now_us=clock.now_us, node_id="n1"
    )
    queue = WriteQueue(store, seal, capacity=64, wait_s=5.0, monotonic_ns=clock.monotonic_ns)
    told = (Told("ops", Severity.HIGH), Told("loud", Severity.CRITICAL))
    news = ApprovalNews(told, clock.now_us, lambda: rings.append(1))
    changes = Changes(queue=queue, clock=clock, fence=Fence(), tells=news)
    yield Desk(store, Approvals(Settings(), changes, store, store, clock), rings)
    await queue.close()
    await store.close()


async def test_asking_and_deciding_are_told_with_their_change(desk: Desk) -> None:
    approval_id = await desk.ask()
    (asked,) = await desk.told()
    said = json.loads(asked.body)
    assert (asked.kind, asked.sink, asked.severity) == ("approval.requested", "ops", 3)
    assert said["approval"] == {
        "id": approval_id, "state": "pending", "agent": "coder", "user": "", "tool": "shop/buy",
        "call_id": said["approval"]["call_id"], "action_sha256": "a" * 64, "method": "POST",
        "asked_sha256": ASKED.sha256, "reason": "buys tea", "path": "/buy", "rules": ["p/asks"],
        "arguments": {"what": "tea"},
        "terms": [{"rule": "p/asks", "approvers": [], "quorum": 1}],
    }  # fmt: skip
    await desk.approvals.deciding.approve("acme", approval_id, ANA, "fine")
    decided = json.loads((await desk.told())[1].body)["approval"]
    assert (decided["state"], decided["actor"], decided["reason"]) == (
        "approved", "person:ana", "fine",
    )  # fmt: skip
    assert decided["votes"] == [{"actor": "person:ana", "vote": "approve", "reason": "fine"}]
    assert len(desk.rings) == 2


async def test_a_vote_that_decides_nothing_is_not_told_and_a_no_is(desk: Desk) -> None:
    approval_id = await desk.ask(quorum=2)
    await desk.approvals.deciding.approve("acme", approval_id, ANA)
    assert len(await desk.told()) == 1
    await desk.approvals.deciding.reject("acme", approval_id, BOB, "no")
    decided = json.loads((await desk.told())[1].body)["approval"]
    assert (decided["state"], len(decided["votes"])) == ("rejected", 2)


async def test_what_nobody_decided_in_time_is_told_once(desk: Desk) -> None:
    approval_id = await desk.ask(life_us=1)
    _, ended = await desk.told()
    assert json.loads(ended.body)["approval"]["state"] == "expired"
    row = await desk.store.approval("acme", approval_id)
    assert row is not None and row.state == "expired"
    seen_before = row._replace(state="pending", version=1)
    assert await desk.approvals.changes.expire(seen_before), "another node was quicker"
    assert len(await desk.told()) == 2


async def test_g10_what_was_voted_on_since_is_not_ended_as_it_was_looked_at(desk: Desk) -> None:
    approval_id = await desk.ask(quorum=3, life_us=300_000)
    looked_at = await desk.approvals.deciding.found("acme", approval_id)
    await desk.approvals.deciding.approve("acme", approval_id, ANA)
    await asyncio.sleep(0.35)
    expire = desk.approvals.changes.expire
    assert not await expire(looked_at), "its audit row would tell of no vote"
    now = await desk.store.approval("acme", approval_id)
    assert now is not None and now.state == "pending" and await expire(now)
    (ended,) = await desk.store.audit_events("acme", 2**62, 9, action="approval.expire")
    assert '"person:ana"' in ended.before_state and '"expired"' in ended.after_state


async def test_a_yes_that_nobody_spent_in_time_is_not_told_again(desk: Desk) -> None:
    approval_id = await desk.ask(life_us=300_000)
    row = await desk.approvals.deciding.approve("acme", approval_id, ANA)
    await asyncio.sleep(0.35)
    assert await desk.approvals.changes.expire(row)
    kept = await desk.store.approval("acme", approval_id)
    assert kept is not None and kept.state == "expired", "positive control"
    assert [row.kind for row in await desk.told()] == ["approval.requested", "approval.decided"]


async def test_what_did_not_come_true_is_told_to_nobody(desk: Desk) -> None:
    approval_id = await desk.ask()
    deciding = desk.approvals.deciding
    outcomes = await asyncio.gather(
        deciding.approve("acme", approval_id, ANA),
        deciding.reject("acme", approval_id, BOB),
        return_exceptions=True,
    )
    assert sum(isinstance(one, ApprovalRefused) for one in outcomes) == 1
    rows = await desk.told()
    assert [row.kind for row in rows] == ["approval.requested", "approval.decided"]
    head = await desk.store.head("acme")
    assert (head.seq, len(desk.rings)) == (2, 2), "one receipt and one news for each"


class Configured:
    """What of a configuration matters here."""

    tenants = {  # noqa: RUF012
        "acme": Tenant(
            agents={},
            people={
                "ana": ConfiguredPerson(roles=(Role.APPROVER,), groups=("g",), key=Secret("k")),
                # An approver elsewhere, or no sink could be hers.
                "vic": ConfiguredPerson(roles=(Role.VIEWER,), groups=("g",), key=Secret("v")),
            },
        )
    }
    sinks = {  # noqa: RUF012
        name: Sink(name=name, kind="slack", url=Secret("https://x"), approver=approver)
        for name, approver in (("ops", "ana"), ("chat", ""), ("odd", "zoe"), ("only", "vic"))
    }


@pytest.mark.parametrize(
    ("sink", "has_link"), [("ops", True), ("chat", False), ("odd", False), ("only", False)]
)
async def test_e7_a_link_goes_to_the_sink_that_stands_for_its_person_and_to_no_other(
    desk: Desk, sink: str, has_link: bool
) -> None:
    approval_id = await desk.ask()
    config: Any = Configured
    addition = approval_addition(desk.approvals, config, "https://a.io")
    (row,) = await desk.told()
    more = await addition(row._replace(sink=sink))
    assert more["approval_url"] == f"https://a.io/v1/approvals/{approval_id}"
    assert more["console_url"] == f"https://a.io/console/approvals/{approval_id}"
    assert "/console/approvals/{approval_id}" in [f"{PREFIX}{page.path}" for page in PAGES]
    assert more["expires_at_us"] > row.created_us
    assert ("decision_url" in more) is has_link
    assert "link" not in row.body, "it lies in no store"
    if has_link:
        begins = "https://a.io/approvals/link/"
        link = await desk.approvals.links.read(more["decision_url"].removeprefix(begins))
        assert (link.name, link.groups, link.approval_id) == ("ana", ("g",), approval_id)
        assert await addition(row._replace(sink=sink)) == more, "sent again, it is the same"
        await desk.approvals.deciding.reject("acme", approval_id, BOB)
        after = await addition(row._replace(sink=sink))
        assert after["state"] == "rejected" and "decision_url" not in after
    without = approval_addition(desk.approvals, config, "")
    assert "approval_url" not in await without(row), "nobody would answer"
    assert await addition(row._replace(kind="alert.opened")) == {}
