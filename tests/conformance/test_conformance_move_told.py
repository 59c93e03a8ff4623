"""G10 of a store as a whole: who lifted its fence and who moved it stands in each of its chains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import postgres_server
import pytest
import warm
from move_store import ROOT, fill, move

from sidecar.clock import Clock
from sidecar.config.store_url import shown_store
from sidecar.ledger.chain import seal
from sidecar.ledger.store_entries import fenced, unfenced
from sidecar.ledger.stored_chain import verify_store
from sidecar.local_users import user_name
from storage import SqlStore, open_marks, open_reader, open_store
from storage.marks import FenceMark, Marks, StoreFenced, Told
from storage.records import Answer, Recorded, Unrecordable
from storage.standing import AuditRow

TENANTS = ("tenant-0", "tenant-1")
ME = f"cli:{user_name(os.geteuid())}"


def mark_for(target: str, fence_id: str = "f1") -> FenceMark:
    return FenceMark(fence_id, target, "node", "store move", 1)


async def told(url: str) -> dict[str, list[AuditRow]]:
    """What was told in each chain of the store as a whole, oldest first; each by its receipt."""
    reader = await open_reader(url)
    try:
        assert not [one for one in await verify_store(reader) if one.fault]
        found: dict[str, list[AuditRow]] = {}
        for tenant in TENANTS:
            rows = await reader.audit_events(tenant, 2**62, 99, subject="store")
            found[tenant] = rows[::-1]
            for row in rows:
                (receipt,) = await reader.receipts(tenant, row.seq - 1, 1)
                assert (receipt.action, receipt.approver) == (row.action, row.actor)
                assert receipt.args_commitment
        return found
    finally:
        await reader.close()


def unfence(url: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar.cli.main", "store", "unfence", "--store", url, *more]
    return warm.run([*command, "--data-dir", "/nowhere"], cwd=ROOT)


async def fence(url: str, target: str) -> None:
    """As a sidecar that was killed behind its fence leaves it."""
    await fill(url, 10, 2)
    store = await open_store(url, now_us=Clock().now_us, node_id="node")
    await Marks(store).put_fence(mark_for(target))
    await store.close()


async def test_g10_who_lifts_the_fence_of_a_stopped_sidecar_is_on_record(store_url: str) -> None:
    await fence(store_url, "elsewhere")
    done = unfence(store_url, "--reason", "back to work")
    assert (done.returncode, "is lifted" in done.stdout) == (0, True), done.stderr
    for rows in (await told(store_url)).values():
        (row,) = rows
        assert (row.actor, row.action, row.reason) == (ME, "store.unfence", "back to work")
        assert json.loads(row.before_state)["target"] == "elsewhere"
    assert "no fence stands" in unfence(store_url).stdout
    assert [len(rows) for rows in (await told(store_url)).values()] == [1, 1], "and once"


async def test_g10_who_moved_a_store_is_on_record_in_the_new_one(
    store_url: str, tmp_path: Path, postgres_dsn: str
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    if store_url.startswith("sqlite"):
        other = await postgres_server.new_database(postgres_dsn)
    await fill(store_url, 10, 2)
    assert move(store_url, other).returncode == 0
    for rows in (await told(other)).values():
        (row,) = rows
        assert (row.actor, row.action) == (ME, "store.move")
        assert json.loads(row.before_state) == {"store": shown_store(store_url), "seq": 10}
        assert json.loads(row.after_state) == {"store": shown_store(other), "seq": 10}
        assert postgres_server.PASSWORD not in row.before_state + row.after_state
    assert await told(store_url) == {tenant: [] for tenant in TENANTS}, "nothing is written there"


async def test_g10_a_move_that_fails_says_that_it_lifted_the_fence_it_found(
    store_url: str, tmp_path: Path
) -> None:
    full = f"sqlite:///{tmp_path}/full.db"
    await fence(store_url, full)
    await fill(full, 3, 1)
    done = move(store_url, full)
    assert (done.returncode, "is not empty" in done.stderr) == (1, True), done.stderr
    assert [
        (row.actor, row.action, row.reason)
        for rows in (await told(store_url)).values()
        for row in rows
    ] == [(ME, "store.unfence", "the move failed")] * 2


async def recorded_with(store: SqlStore, mark: FenceMark, *entries: Any) -> Sequence[Answer]:
    return await Marks(store).put_fence(mark, Told(entries, seal))


async def test_g10_a_mark_and_what_is_told_of_it_are_one_transaction(store_url: str) -> None:
    clock, mark = Clock(), mark_for("elsewhere")
    store = await open_store(store_url, now_us=clock.now_us, node_id="node")
    try:
        entries = [fenced(clock, tenant, "socket:ana", mark) for tenant in TENANTS]
        answers = await recorded_with(store, mark, *entries)
        assert [type(one) for one in answers] == [Recorded, Recorded]
        later = mark_for("elsewhere", "f2")
        with pytest.raises(StoreFenced):
            await recorded_with(store, later, fenced(clock, "tenant-0", "socket:eve", later))
        assert [len(rows) for rows in (await told(store_url)).values()] == [1, 1]
        # An entry that no chain takes keeps neither the mark nor the others.
        whole, odd = (unfenced(clock, one, "socket:ana", mark, "") for one in TENANTS)
        odd.receipt = odd.receipt._replace(resource="\ud800")
        answers = await Marks(store).drop_fence(Told([odd, whole], seal))
        assert [type(one) for one in answers] == [Unrecordable, Recorded]
        assert await Marks(store).fence() is None
        # The next batch goes on from there.
        more = [unfenced(clock, "tenant-0", "socket:ana", mark, "")]
        assert [type(one) for one in await store.record(more, seal)] == [Recorded]
    finally:
        await store.close()
    found = await told(store_url)
    assert [row.action for row in found["tenant-0"]] == [
        "store.fence", "store.unfence", "store.unfence",
    ]  # fmt: skip


async def test_marks_alone_may_be_told_of_in_a_store_that_is_fenced(store_url: str) -> None:
    await fence(store_url, "elsewhere")
    with pytest.raises(StoreFenced):
        await open_store(store_url, now_us=Clock().now_us, node_id="node")
    store = await open_marks(store_url, now_us=Clock().now_us)
    assert sorted(await store.tenants()) == list(TENANTS)
    await store.close()
