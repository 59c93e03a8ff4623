"""Receipts as portable lines: what an auditor takes away and verifies without us.

Knows: the form of a line (the body's keys and `receipt_hash`, flat, in canonical order), and
paging, so that a chain of any length needs little memory. What is exported ends at the head as
it was when the export began, however much is recorded meanwhile; what is archived meanwhile, on a
server, is a gap that no verifier could tell from one that was made by hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson

from sidecar.ledger.receipt import Body, body_of
from storage.errors import StoreCorrupt, StoreError
from storage.protocol import LedgerReader
from storage.records import ReceiptRow
from storage.retention import WHOLE, CareReader, Cut
from storage.sql_store import SqlReader

PAGE_ROWS = 1000

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class ExportOvertaken(StoreError):
    """What was to be exported next went into an archive meanwhile."""

    code = "export_overtaken"
    next_step = (
        "Export again: it begins where the chain begins by now. What was written so far is a part."
    )


async def export_lines(
    reader: SqlReader, tenant_id: str, *, with_facts: bool = False, start: Cut = WHOLE
) -> AsyncIterator[bytes]:
    """The tenant's receipts after `start`, oldest first, one JSON object a line.

    With `with_facts` a line also has `salt`, `arguments` and `facts`: null where there are none,
    or where they were erased. Rows are given as they are found: telling whether they were
    tampered with is the verifier's work. Raises StoreCorrupt where rows are missing altogether,
    ExportOvertaken where they were archived meanwhile, and any StoreError of reading.
    """
    end = (await reader.head(tenant_id)).seq
    after_seq, prev_hash = start.seq, start.receipt_hash
    while after_seq < end:
        page = await reader.receipts(tenant_id, after_seq, min(PAGE_ROWS, end - after_seq))
        if not page or page[0].seq != after_seq + 1:
            await _require_uncut(reader, tenant_id, after_seq)
        if not page or page[-1].seq > end:
            raise StoreCorrupt(f"receipts of {tenant_id!r} after {after_seq} are missing")
        for row in page:
            beside = await _beside(reader, row) if with_facts else {}
            yield _line(row, prev_hash, beside)
            after_seq, prev_hash = row.seq, row.receipt_hash


async def _require_uncut(reader: SqlReader, tenant_id: str, after_seq: int) -> None:
    cut = await CareReader(reader).cut(tenant_id)
    if cut.seq > after_seq:
        raise ExportOvertaken(
            f"receipts {after_seq + 1} to {cut.seq} of {tenant_id!r} were archived meanwhile, in "
            f"{cut.archive}"
        )


def _line(row: ReceiptRow, prev_hash: str, beside: Body) -> bytes:
    line = body_of(row, prev_hash) | beside
    line["receipt_hash"] = row.receipt_hash
    try:
        return orjson.dumps(line, option=_OPTIONS)
    except TypeError as error:
        raise StoreCorrupt(f"receipt {row.seq} of {row.tenant_id!r}: {error}") from error


async def _beside(reader: LedgerReader, row: ReceiptRow) -> Body:
    facts = await reader.call_facts(row.tenant_id, row.seq)
    if facts is None:
        return {"salt": None, "arguments": None, "facts": None}
    return {"salt": facts.salt, "arguments": facts.arguments, "facts": facts.facts}
