"""F2: a store's own signed heads are held against its chain wherever the chain is verified."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from ledger_checkpoint_setup import key_of, opened, record, signed_now

from sidecar.clock import Clock
from sidecar.ledger.anchors import TrustedKey
from sidecar.ledger.canonical import canonical_body
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpoint import read_signed
from sidecar.ledger.exported import LostCheckpoint, accepted
from sidecar.ledger.key_rotation import rotated
from sidecar.ledger.merkle import append, frontier_to_hex, leaf_hash
from sidecar.ledger.receipt import body_of, receipt_hash
from sidecar.ledger.stored_chain import ChainReport, verify_chain, verify_store
from sidecar.ledger.stored_heads import HeldStretch, signed_heads
from sidecar.ledger.tiles import leaves
from storage.known_heads import Seen
from storage.sql_store import SqlStore
from storage.tree import TreeReader, TreeWriter

TRUSTED = (TrustedKey(key_of(1).public),)


async def _signed(folder: Path, *sizes: int) -> None:
    """A store whose chain was signed at these sizes, and ends at the last of them."""
    async with opened(folder) as store:
        for size in sizes:
            await record(store, size - (await store.head("default")).seq)
            await signed_now(store)


async def _report(folder: Path, trusted: Sequence[TrustedKey] = TRUSTED) -> ChainReport:
    async with opened(folder) as store:
        (report,) = await verify_store(store, trusted)
        assert report == await verify_chain(store, "default", trusted)
        return report


async def _rewritten(store: SqlStore, keep: int, until: int) -> list[str]:
    """Statements that make receipts after `keep` others, up to `until`, with a head that fits."""
    rows = await store.receipts("default", 0, 1000)
    found, frontier = ["DELETE FROM call_facts"], list[bytes]()
    found += [f"DELETE FROM receipts WHERE seq > {until}"]
    previous, ts_us = "", 0
    for row in rows[:until]:
        if row.seq > keep:
            row = row._replace(agent_id="mallory")
            row = row._replace(receipt_hash=receipt_hash(body_of(row, previous)))
            found.append(
                f"UPDATE receipts SET agent_id = 'mallory', receipt_hash = '{row.receipt_hash}' "
                f"WHERE seq = {row.seq}"
            )
        append(frontier, row.seq - 1, leaf_hash(canonical_body(body_of(row, previous))))
        previous, ts_us = row.receipt_hash, row.ts_us
    found.append(
        f"UPDATE chain_head SET seq = {until}, receipt_hash = '{previous}', ts_us = {ts_us}, "
        f"frontier = '{frontier_to_hex(frontier)}'"
    )
    return found


def _done(folder: Path, statements: Sequence[str]) -> None:
    raw = sqlite3.connect(folder / "aegis.db")
    for statement in statements:
        raw.execute(statement)
    raw.commit()
    raw.close()


#: What was signed, which receipts stay as they were, where the chain ends now, what is said, and
#: how many receipts hold.
TAMPERED = (
    ("the tail cut", (5,), 2, 2, "5 receipts were signed, and there are 2", 2),
    ("the tail cut after a head", (2, 5), 2, 2, "receipts 3 to 5 are missing", 2),
    ("cut and grown again to the same length", (3, 6), 3, 6, "receipts 4 to 6 are not what", 3),
    ("rewritten as a whole", (4,), 0, 4, "receipts 1 to 4 are not what was signed", 0),
    ("rewritten, and longer", (4, 6), 3, 6, "receipts 1 to 4 are not what was signed", 0),
)  # fmt: skip


@pytest.mark.parametrize("trusted", [(), TRUSTED], ids=["no key", "the key"])
@pytest.mark.parametrize(
    ("sizes", "keep", "until", "said", "holding"),
    [case[1:] for case in TAMPERED],
    ids=[case[0] for case in TAMPERED],
)
async def test_f2_a_chain_that_is_not_what_was_signed_of_it_does_not_hold(
    tmp_path: Path, sizes: tuple[int, ...], keep: int, until: int, said: str, holding: int,
    trusted: tuple[TrustedKey, ...],
) -> None:  # fmt: skip
    await _signed(tmp_path, *sizes)
    assert (await _report(tmp_path, trusted)).fault is None, "positive control"
    async with opened(tmp_path) as store:
        statements = await _rewritten(store, keep, until)
    _done(tmp_path, statements)
    report = await _report(tmp_path, trusted)
    assert said in str(report.fault) and report.last_seq == holding
    _done(tmp_path, ["DELETE FROM checkpoint"])
    unsigned = await _report(tmp_path, trusted)
    assert unsigned.fault is None, "by itself it is a chain: only the head tells"
    assert unsigned.anchors.size == 0


async def test_f2_a_chain_that_is_gone_with_its_head_is_still_missed(tmp_path: Path) -> None:
    await _signed(tmp_path, 5)
    _done(tmp_path, ["DELETE FROM receipts", "DELETE FROM call_facts", "DELETE FROM chain_head"])
    async with opened(tmp_path) as store:
        (report,) = await verify_store(store, TRUSTED)
    assert "5 receipts were signed, and there are 0" in str(report.fault)


@pytest.mark.parametrize(("statement", "said"), [
    ("UPDATE checkpoint SET root = replace(root, substr(root, 1, 4), '0000')", "another tree"),
    ("UPDATE checkpoint SET size = 4", "another tree"),
    ("UPDATE checkpoint SET note = 'no note'", "damaged"),
    ("UPDATE checkpoint SET tenant_id = 'default', note = replace(note, 'default', 'rival')",
     "another tree"),
])  # fmt: skip
async def test_f2_a_signed_head_that_was_touched_is_named(
    tmp_path: Path, statement: str, said: str
) -> None:
    await _signed(tmp_path, 5)
    _done(tmp_path, [statement])
    assert said in str((await _report(tmp_path)).fault)


async def test_rule_17_a_report_says_how_far_it_is_anchored_and_by_whom(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await record(store, 3)
    assert (await _report(tmp_path)).anchors.size == 0
    await _signed(tmp_path, 5)
    async with opened(tmp_path) as store:
        await record(store, 2)
    report = await _report(tmp_path)
    assert (report.fault, report.last_seq, report.anchors.size) == (None, 7, 5)
    assert "aegis-sidecar/default/" in report.anchors.key
    for trusted in ((), (TrustedKey(key_of(2).public),)):
        other = await _report(tmp_path, trusted)
        assert (other.fault, other.anchors.size, other.anchors.agreeing) == (None, 0, 1)


async def test_f4_a_head_of_the_key_before_a_rotation_anchors_by_the_one_after(
    tmp_path: Path,
) -> None:
    await _signed(tmp_path, 4)
    async with opened(tmp_path) as store:
        row = await TreeReader(store).latest_checkpoint("default")
        assert row is not None
        origin = read_signed(row.note)[0].origin
        await store.record(
            [rotated(Clock(), "default", "cli:ana", origin, key_of(1), key_of(2))], seal
        )
    report = await _report(tmp_path, (TrustedKey(key_of(2).public),))
    assert (report.anchors.size, report.anchors.rotations) == (4, 1)


async def test_f8_a_head_that_was_given_up_on_record_is_no_head_of_this_history(
    tmp_path: Path,
) -> None:
    await _signed(tmp_path, 5)
    async with opened(tmp_path) as store:
        row = await TreeReader(store).latest_checkpoint("default")
        assert row is not None
        statements = await _rewritten(store, 2, 2)
    _done(tmp_path, statements)
    assert (await _report(tmp_path)).fault is not None, "positive control"
    async with opened(tmp_path) as store:
        lost = LostCheckpoint("default", 5, row.root, row.note, Seen(2, ""), "file:heads")
        await TreeWriter(store).set_checkpoint(accepted(lost, 1))
    assert (await _report(tmp_path)).fault is None


async def test_a_chain_that_grows_while_it_is_verified_is_not_cut(tmp_path: Path) -> None:
    """Heads are read first: what is signed meanwhile is not held against an older end."""
    await _signed(tmp_path, 5)
    async with opened(tmp_path) as store:
        heads = await signed_heads(store, "default")
        await record(store, 3)
        await signed_now(store)
        assert heads.held(heads.watch(), 8, TRUSTED).fault is None
        assert (await verify_chain(store, "default", TRUSTED)).anchors.size == 8


@pytest.mark.parametrize("trusted", [(), (TrustedKey(key_of(2).public),)], ids=["none", "other"])
async def test_f2_a_stretch_is_compared_with_heads_of_whomever(
    tmp_path: Path, trusted: tuple[TrustedKey, ...]
) -> None:
    await _signed(tmp_path, 20)
    async with opened(tmp_path) as store:
        for is_touched in (False, True):
            stretch = HeldStretch(store, await signed_heads(store, "default"), trusted)
            await stretch.begin(5)
            (leaf,) = await leaves(store, "default", 4, 5)
            stretch.take([bytes(32) if is_touched else leaf])
            await stretch.prove_newest(20)
            anchors = stretch.anchors(20)
            assert (anchors.fault is not None, anchors.size) == (is_touched, 0)


@pytest.mark.parametrize(("first", "last", "anchored"), [
    (1, 1, 600), (300, 310, 600), (250, 260, 600), (300, 600, 600), (595, 605, 600), (601, 605, 0),
    (1, 605, 600),
])  # fmt: skip
async def test_f2_a_stretch_is_shown_to_be_in_what_was_signed(
    tmp_path: Path, first: int, last: int, anchored: int
) -> None:
    await _signed(tmp_path, 300, 600)
    async with opened(tmp_path) as store:
        await record(store, 5)
        for is_touched in (False, True):
            stretch = HeldStretch(store, await signed_heads(store, "default"), TRUSTED)
            await stretch.begin(first)
            found = await leaves(store, "default", first - 1, last)
            if is_touched:
                found[0] = bytes(32)
            stretch.take(found)
            await stretch.prove_newest(605)
            anchors = stretch.anchors(605)
            if is_touched and anchored:
                assert anchors.fault is not None and anchors.fault.kind == "rewritten"
            else:
                assert (anchors.fault, anchors.size) == (None, anchored)
        stretch = HeldStretch(store, await signed_heads(store, "default"), TRUSTED)
        await stretch.begin(first)
        cut = stretch.anchors(500)
        assert cut.fault is not None and cut.fault.kind == "cut"
