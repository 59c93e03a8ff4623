"""F8, A15: what a process knows to be durable must stand in the store, on every engine: when it is
held against what was seen before, and whenever the store had to be connected to again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import asyncpg
import postgres_server
import pytest
from conformance_setup import OpenStore, draft, intent, seal

from storage import SqlStore, open_reader, open_store
from storage.errors import StoreError, StoreUnavailable
from storage.known_heads import Seen, StoreRolledBack
from storage.records import Entry, ReceiptRow
from storage.retention import Cut, Retention

OTHER = "f" * 64


async def filled(store: SqlStore) -> list[ReceiptRow]:
    """Five receipts of acme, one of another tenant; gives acme's."""
    for number in range(5):
        await store.record([Entry(draft("acme", "control", event_id=f"e{number}"))], seal)
    await store.record([intent("c1", "rival")], seal)
    return await store.receipts("acme", 0, 100)


def seen(row: ReceiptRow) -> Seen:
    return Seen(row.seq, row.receipt_hash)


async def test_f8_heads_that_stand_and_heads_that_do_not(store: SqlStore) -> None:
    rows = await filled(store)
    await store.compare({})
    for row in rows:
        await store.compare({"acme": seen(row)})
        assert await store.lost_heads({"acme": seen(row)}) == []
    there = seen(rows[-1])
    for lost, words in (
        (Seen(6, OTHER), "and the store ends at 5"),
        (Seen(5, OTHER), "has another one in its place; it ends at 5"),
        (Seen(2, OTHER), "has another one in its place; it ends at 5"),
    ):
        with pytest.raises(StoreRolledBack, match=words) as caught:
            await store.compare({"acme": lost, "rival": Seen(1, store.known.all()["rival"][1])})
        [found] = caught.value.lost
        assert (found.tenant_id, found.seen, found.there) == ("acme", lost, there)
        assert await store.lost_heads({"acme": lost}) == [found]
    odd = "o'hara \u00fc \\ \""
    with pytest.raises(StoreRolledBack, match=r"ends at 0 \(-\); and 1 more tenant") as caught:
        await store.compare({"zulu": Seen(3, OTHER), odd: Seen(1, OTHER)})
    assert [one.tenant_id for one in caught.value.lost] == [odd, "zulu"]
    assert caught.value.code == "store_rolled_back"


async def test_f8_a_receipt_that_was_archived_is_told_by_the_cut(store: SqlStore) -> None:
    rows = await filled(store)
    cut = rows[2]
    await Retention(store).cut_off(
        "acme", Cut(cut.seq, cut.receipt_hash, cut.ts_us, "", "archive.jsonl", "0" * 64)
    )
    assert len(await store.receipts("acme", 0, 100)) == 2
    await store.compare({"acme": seen(rows[0])})
    await store.compare({"acme": seen(cut)})
    await store.compare({"acme": seen(rows[3])})
    for lost in (Seen(cut.seq, OTHER), Seen(4, OTHER), Seen(9, OTHER)):
        with pytest.raises(StoreRolledBack):
            await store.compare({"acme": lost})


async def test_what_is_acknowledged_is_known(store: SqlStore, open_it: OpenStore) -> None:
    rows = await filled(store)
    assert store.known.all()["acme"] == seen(rows[-1])
    # The second of the two is refused, by the odd way through: the first counts, it does not.
    await store.record([intent("c2"), intent("c2")], seal)
    head = await store.head("acme")
    assert head.seq == 6 and store.known.all()["acme"] == (6, head.receipt_hash)
    await store.record([intent("c3", epoch=7)], seal)
    assert store.known.all()["acme"].seq == 6, "a guard that failed has recorded nothing"
    await store.close()
    again = await open_it()
    assert again.known.all() == {}
    await again.compare({"acme": seen(rows[0])})
    assert {tenant: head.seq for tenant, head in again.known.all().items()} == {
        "acme": 6, "rival": 1,
    }  # fmt: skip


@pytest.mark.parametrize("is_lost", [True, False], ids=["rolled back", "as it was"])
async def test_a15_a_store_that_lost_what_was_acknowledged_takes_nothing_after_a_reconnect(
    store: SqlStore, store_url: str, is_lost: bool
) -> None:
    rows = await filled(store)
    back = rows[2]
    if store_url.startswith("postgresql"):
        await _behind_a_server(store_url, back if is_lost else None)
    else:
        _behind_a_file(Path(store_url.removeprefix("sqlite:///")), back if is_lost else None)
    for number in range(3):
        try:
            await store.record([intent(f"after{number}")], seal)
        except StoreError as error:
            code = error.code
        else:
            code = ""
        if not code and not is_lost:
            break
    reader = await open_reader(store_url)  # the store's own may hold the file that was replaced
    head = await reader.head("acme")
    await reader.close()
    if is_lost:
        assert code == "store_rolled_back"
        assert (head.seq, head.receipt_hash) == seen(back), "something was put onto the wrong end"
    else:
        assert head.seq == 6, "positive control: an ordinary reconnect goes on"
        assert store.facts().reopened_total >= 1


async def test_what_was_read_is_known(store: SqlStore, open_it: OpenStore) -> None:
    await filled(store)
    await store.close()
    again = await open_it()
    head = await again.head("acme")
    assert again.known.all() == {"acme": (5, head.receipt_hash)}
    assert (await again.head("nobody")).seq == 0
    assert set(again.known.all()) == {"acme"}


async def test_a15_a_node_that_only_read_what_was_lost_takes_nothing_either(
    postgres_dsn: str,
) -> None:
    """It goes by what another wrote (a freeze): with that lost it must not go on in silence."""
    url = await postgres_server.new_database(postgres_dsn)
    writer = await open_store(url, now_us=lambda: 1, node_id="writer")
    idle = await open_store(url, now_us=lambda: 1, node_id="idle")
    busy = await open_store(url, now_us=lambda: 1, node_id="busy")
    try:
        back = (await filled(writer))[-1]
        await idle.compare({"acme": seen(back)})
        await idle.head("acme")
        await writer.record([Entry(draft("acme", "control"), raises_epoch=True)], seal)
        epoch = (await idle.head("acme")).epoch
        await _behind_a_server(url, back)
        # One that knew nothing of it makes the chain as long again, and longer.
        for number in range(9):
            with contextlib.suppress(StoreError):  # its own connection is lost first
                await busy.record([intent(f"new{number}")], seal)
        head = await idle.head("acme")
        assert head.seq > 6, "another history is longer by now"
        with contextlib.suppress(StoreUnavailable, StoreRolledBack):  # here too
            await idle.record([intent("after0", epoch=epoch)], seal)
            pytest.fail("a call went ahead")
        with pytest.raises(StoreRolledBack, match=r"receipt 6 .* has another one in its place"):
            await idle.record([intent("after1", epoch=epoch)], seal)
        await idle.head("acme")
        assert idle.known.all()["acme"].seq == 6, "and it is not forgotten by looking again"
    finally:
        for one in (writer, idle, busy):
            await one.close()


async def test_f8_older_tables_that_are_put_back_under_a_running_node_are_noticed(
    postgres_dsn: str,
) -> None:
    """Whoever restores them in place ends nobody's connection."""
    url = await postgres_server.new_database(postgres_dsn)
    store = await open_store(url, now_us=lambda: 1, node_id="node")
    try:
        rows = await filled(store)
        await _behind_a_server(url, rows[2], ends=False)
        for name in ("first", "second"):  # over the connection there is, then over another
            with pytest.raises(StoreRolledBack, match=r"receipt 5 .* and the store ends at 3"):
                await store.record([intent(name)], seal)
        assert (await store.head("acme")).seq == 3, "nothing was put onto the wrong end"
    finally:
        await store.close()


async def _behind_a_server(url: str, back: ReceiptRow | None, *, ends: bool = True) -> None:
    """What a standby that missed some is like; and every connection but this one `ends`."""
    raw = await asyncpg.connect(url)
    await raw.execute("SELECT set_config('aegis.tenants', '*', false)")
    if back is not None:
        await raw.execute("DELETE FROM receipts WHERE tenant_id = 'acme' AND seq > $1", back.seq)
        await raw.execute(
            "UPDATE chain_head SET seq = $1, receipt_hash = $2, frontier = $2 "
            "WHERE tenant_id = 'acme'",
            back.seq, back.receipt_hash,
        )  # fmt: skip
    if ends:
        await raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await raw.close()


def _behind_a_file(path: Path, back: ReceiptRow | None) -> None:
    """An older copy takes the file's place while it is open."""
    copy = path.with_name("copy.db")
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    source.backup(target)
    if back is not None:
        target.execute("DELETE FROM receipts WHERE tenant_id = 'acme' AND seq > ?", [back.seq])
        target.execute(
            "UPDATE chain_head SET seq = ?1, receipt_hash = ?2, frontier = ?2 "
            "WHERE tenant_id = 'acme'",
            [back.seq, back.receipt_hash],
        )
    target.commit()
    source.close()
    target.close()
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink()
    copy.replace(path)
