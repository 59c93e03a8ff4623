"""Sealing: links, hashes and frontier as the format says; one bad draft harms nobody else."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_setup import (
    START_US,
    chain,
    draft,
    empty_head,
    lines_of,
    reference_canonical,
    reference_root,
)

from sidecar.ledger.chain import seal
from sidecar.ledger.merkle import frontier_from_hex, root
from sidecar.ledger.receipt import BODY_KEYS, body_of, receipt_hash
from sidecar.ledger.verify import verify_lines
from storage.records import HeadRow, ReceiptRow

TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
OPTIONAL = sorted(
    set(ReceiptRow._fields)
    - {"tenant_id", "seq", "kind", "event_id", "ts_us", "http_status", "receipt_hash"}
)
DRAFTS = st.lists(
    st.builds(
        lambda values, ts_us, status: draft(ts_us=ts_us, http_status=status, **values),
        st.fixed_dictionaries({name: TEXT for name in OPTIONAL}),
        st.integers(0, 2**53 - 1),
        st.none() | st.integers(100, 599),
    ),
    max_size=12,
)


def rows_of(heads: dict[str, HeadRow], drafts: list[ReceiptRow]) -> list[Any]:
    return list(seal(heads, drafts).rows)


@given(DRAFTS)
@settings(max_examples=60)
def test_any_drafts_make_a_chain_that_verifies(drafts: list[ReceiptRow]) -> None:
    sealed = seal({"default": empty_head()}, drafts)
    rows = [row for row in sealed.rows if isinstance(row, ReceiptRow)]
    assert len(rows) == len(drafts)
    lines = lines_of(rows)
    verdict = verify_lines(lines)
    head = sealed.heads["default"]
    assert verdict.holds == bool(drafts)
    assert (verdict.count, verdict.head_hash) == (head.seq, head.receipt_hash)
    assert verdict.root == root(frontier_from_hex(head.frontier, head.seq)).hex()


def test_the_bytes_that_are_hashed_are_the_canonical_body() -> None:
    sealed = seal({"default": empty_head()}, [draft(1), draft(2, outcome='é\U0001f680\x00"\\')])
    prev, leaves = "", []
    for row in sealed.rows:
        assert isinstance(row, ReceiptRow)
        body = body_of(row, prev)
        assert sorted(body) == list(BODY_KEYS)
        leaves.append(reference_canonical(body))
        assert row.receipt_hash == sha256(leaves[-1]).hexdigest() == receipt_hash(body)
        prev = row.receipt_hash
    head = sealed.heads["default"]
    assert root(frontier_from_hex(head.frontier, 2)) == reference_root(leaves)
    assert head == HeadRow("default", 2, prev, START_US + 2, head.frontier, 0)


@given(st.lists(st.integers(1, 9), max_size=12))
def test_batches_of_any_size_give_the_same_chain(sizes: list[int]) -> None:
    drafts = [draft(number) for number in range(1, sum(sizes) + 1)]
    heads = {"default": empty_head()}
    rows: list[Any] = []
    at = 0
    for size in sizes:
        sealed = seal(heads, drafts[at : at + size])
        rows += sealed.rows
        heads, at = dict(sealed.heads), at + size
    assert rows == chain(drafts) if drafts else rows == []
    if drafts:
        assert heads == dict(seal({"default": empty_head()}, drafts).heads)


def test_tenants_have_chains_of_their_own() -> None:
    mixed = [draft(1, "a"), draft(2, "b"), draft(3, "a"), draft(4, "b")]
    rows = chain(mixed)
    assert [row for row in rows if row.tenant_id == "a"] == chain(mixed[::2])
    assert [row for row in rows if row.tenant_id == "b"] == chain(mixed[1::2])


def test_a18_time_never_runs_backwards_in_a_chain() -> None:
    rows = chain([draft(1, ts_us=10), draft(2, ts_us=5), draft(3, ts_us=11)])
    assert [row.ts_us for row in rows] == [10, 10, 11]
    assert verify_lines(lines_of(rows)).holds


def test_the_epoch_of_a_head_is_kept() -> None:
    head = empty_head()._replace(epoch=7)
    assert seal({"default": head}, [draft(1)]).heads["default"].epoch == 7


@pytest.mark.parametrize(
    "values",
    [
        {"tool": "\ud800"},
        {"http_status": 2**53},
        {"ts_us": 2**53},
        {"http_status": True},
        {"http_status": 200.0},
        {"http_status": "200"},
        {"tool": 7},
        {"tool": b"x"},
        {"tool": ["x"]},
        {"event_id": None},
        {"kind": None},
        {"kind": "allow"},
        {"kind": ""},
        {"ts_us": None},
        {"ts_us": "now"},
    ],
    ids=str,
)
def test_a_draft_that_cannot_be_a_receipt_answers_for_itself_only(values: dict[str, Any]) -> None:
    good, bad, after = draft(1), draft(2)._replace(**values), draft(3)
    sealed = seal({"default": empty_head()}, [good, bad, after])
    rows = list(sealed.rows)
    assert isinstance(rows[1], str) and rows[1]
    assert [rows[0], rows[2]] == chain([good, after])
    assert sealed.heads == seal({"default": empty_head()}, [good, after]).heads


@pytest.mark.parametrize("frontier", ["", "ab" * 32, "zz" * 64, "ab" * 96])
def test_a_damaged_head_stops_its_tenant_and_no_other(frontier: str) -> None:
    damaged = HeadRow("bad", 3, "ab" * 32, 0, frontier, 0)
    heads = {"bad": damaged, "default": empty_head()}
    sealed = seal(heads, [draft(1, "bad"), draft(2)])
    assert isinstance(sealed.rows[0], str) and "damaged" in sealed.rows[0]
    assert sealed.rows[1] == chain([draft(2)])[0]
    assert sealed.heads["bad"] == damaged


def test_f6_a_head_that_is_reused_gives_the_same_seq_for_the_store_to_refuse() -> None:
    heads = {"default": empty_head()}
    first, second = rows_of(heads, [draft(1)])[0], rows_of(heads, [draft(2)])[0]
    assert first.seq == second.seq == 1
    assert first.receipt_hash != second.receipt_hash


@pytest.mark.serial
def test_sealing_is_quick() -> None:
    """It runs while callers wait. 4.7 us here per receipt; the bound leaves room for slow hosts."""
    drafts = [draft(number) for number in range(64)]
    heads = {"default": empty_head()}
    took = []
    for _ in range(200):
        started = time.perf_counter()
        heads = dict(seal(heads, drafts).heads)
        took.append((time.perf_counter() - started) / len(drafts))
    assert sorted(took)[len(took) // 2] < 30e-6
