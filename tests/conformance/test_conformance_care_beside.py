"""Who takes care of a store is not alone on a server: others archive, verify, export and move it
meanwhile, and what each says is true. A file is held by one process, whose rooms are the same."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
from test_conformance_care import CLOCK, fill

from sidecar.cli import store_prune
from sidecar.control.erasing import Erasure
from sidecar.ledger import export, stored_chain
from sidecar.ledger.alone import record
from sidecar.ledger.archive import write_archive
from sidecar.ledger.care import pruned_receipts
from sidecar.ledger.chain import seal
from sidecar.ledger.export import ExportOvertaken, export_lines
from sidecar.ledger.stored_chain import verify_chain
from sidecar.ledger.verify import verify_lines
from storage import SqlStore
from storage.driver import fetch
from storage.marks import FenceMark, Marks, StoreFenced, StoreMoved
from storage.retention import WHOLE, Cut, CutOvertaken, Retention


async def archived(store: SqlStore, folder: Path, until_seq: int) -> Cut:
    """The first receipts stand in an archive, and the chain tells of it; nothing is cut yet."""
    path = folder / f"{until_seq}.jsonl"
    cut = await write_archive(store, "acme", WHOLE, until_seq, path, path, with_facts=False)
    await store.record([pruned_receipts(CLOCK, "acme", "cli:ana", cut)], seal)
    return cut


async def lose(store: SqlStore, seq: int) -> None:
    """By hand, of which nothing tells."""
    gone = f"DELETE FROM receipts WHERE tenant_id = 'acme' AND seq = {seq} RETURNING seq"
    assert await store._driver.transaction(partial(fetch, gone), ["acme"]) == [(seq,)]


class Overtaken(Retention):
    """While it deletes what it has cut off, another cuts off less."""

    def __init__(self, store: SqlStore, less: Cut) -> None:
        super().__init__(store, rows_a_transaction=3)
        self._less: list[Cut] = [less]

    async def delete_facts(self, tenant_id: str, until_seq: int) -> int:
        if self._less:
            with pytest.raises(CutOvertaken) as caught:
                await Retention(self._store).cut_off(tenant_id, self._less.pop())
            assert "receipts 1 to 14 of tenant 'acme' were cut off meanwhile" in str(caught.value)
            assert "goes on from there" in caught.value.next_step
        return await super().delete_facts(tenant_id, until_seq)


async def test_of_two_who_cut_a_chain_at_once_the_later_cut_stands(
    store: SqlStore, tmp_path: Path
) -> None:
    await fill(store, "acme")
    less, more = await archived(store, tmp_path, 8), await archived(store, tmp_path, 14)
    assert await Overtaken(store, less).cut_off("acme", more) == (14, 7)
    assert await Retention(store).cut("acme") == more
    report = await verify_chain(store, "acme")
    assert (report.fault, report.first_seq, report.last_seq) == (None, 15, 22)
    with pytest.raises(CutOvertaken):
        await Retention(store).cut_off("acme", more)


async def test_a_chain_that_is_cut_while_it_is_verified_holds(
    store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, "acme")
    monkeypatch.setattr(stored_chain, "PAGE_ROWS", 4)
    read, cut = stored_chain.page_of, await archived(store, tmp_path, 10)

    async def overtaken(*asked: object, **more: object) -> object:
        if asked[2] == 4:
            await Retention(store).cut_off("acme", cut)
        return await read(*asked, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(stored_chain, "page_of", overtaken)
    report = await verify_chain(store, "acme")
    assert (report.fault, report.first_seq, report.last_seq) == (None, 11, 21)
    monkeypatch.setattr(stored_chain, "page_of", read)
    await lose(store, 15)
    assert (await verify_chain(store, "acme")).fault == "receipt 15 is missing"


async def test_an_export_that_is_overtaken_by_an_archive_is_none(
    store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a gap, and the verifier called it tampered with."""
    await fill(store, "acme")
    monkeypatch.setattr(export, "PAGE_ROWS", 4)
    cut = await archived(store, tmp_path, 10)
    lines = []
    with pytest.raises(ExportOvertaken, match="receipts 5 to 10 of 'acme' were archived") as caught:
        async for line in export_lines(store, "acme"):
            if not lines:
                await Retention(store).cut_off("acme", cut)
            lines.append(line)
    assert len(lines) == 4 and "Export again" in caught.value.next_step
    rest = [line async for line in export_lines(store, "acme", start=cut)]
    assert verify_lines(rest, first_seq=11).holds
    # A gap that nobody made by an archive is exported as it is: the verifier names it.
    await lose(store, 15)
    rest = [line async for line in export_lines(store, "acme", start=cut)]
    assert not verify_lines(rest, first_seq=11).holds


async def test_an_age_is_looked_for_while_the_beginning_goes(
    store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, "acme")
    cut = await archived(store, tmp_path, 14)
    retention, head = Retention(store), await store.head("acme")
    assert await retention.last_before("acme", 5001, head) == 10
    ask = retention._fetch

    async def overtaken(name: str, *asked: object) -> object:
        if name == "receipt_time":
            monkeypatch.setattr(retention, "_fetch", ask)
            await retention.cut_off("acme", cut)
        return await ask(name, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(retention, "_fetch", overtaken)
    assert await retention.last_before("acme", 5001, head) == 14


async def test_an_archive_is_not_written_of_what_another_has_taken(
    store: SqlStore, tmp_path: Path
) -> None:
    """It was said that the archive, and so the chain, does not hold."""
    await fill(store, "acme")
    await Retention(store).cut_off("acme", await archived(store, tmp_path, 14))
    asked = Namespace(archive=str(tmp_path / "late.jsonl"), facts=False)
    with pytest.raises(CutOvertaken, match=r"the last of them .*14\.jsonl"):
        await store_prune._archived(store, asked, "acme", WHOLE, 10)
    assert [path.name for path in tmp_path.glob("*late*")] == []


@pytest.mark.parametrize("mark", ["moved", "fenced"])
async def test_care_that_was_begun_before_a_move_ends_where_the_move_begins(
    store: SqlStore, tmp_path: Path, mark: str
) -> None:
    """It was said to be erased, and stood where the store had been moved to."""
    await fill(store, "acme")
    cut = await archived(store, tmp_path, 10)
    erasure, retention = Erasure(store, CLOCK, "cli:ana"), Retention(store)
    wanted = await erasure.about("acme", "agent", "agent-0")
    if mark == "moved":
        await Marks(store).leave("sqlite:///other.db")
    else:
        await Marks(store).put_fence(FenceMark("f", "sqlite:///other.db", "node", "", 1))
    kind, head = StoreMoved if mark == "moved" else StoreFenced, await store.head("acme")
    for begun in (
        erasure.erase(wanted),
        erasure.finish(wanted),
        retention.cut_off("acme", cut),
        retention.delete_facts("acme", 10),
        record(store, pruned_receipts(CLOCK, "acme", "cli:ana", cut)),
    ):
        with pytest.raises(kind):
            await begun
    assert await erasure.interrupted() is None
    assert await store.head("acme") == head and await retention.cut("acme") == WHOLE
    assert await retention.count("call_facts", "acme", 0, 20) == 10
