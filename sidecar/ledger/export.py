"""Receipts as portable lines: what an auditor takes away and verifies without us.

Knows: the form of a line (the body's keys and `receipt_hash`, flat, canonical order), and paging,
so that a chain of any length needs little memory. What is exported ends at the head as it was
when the export began.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson

from sidecar.ledger.receipt import body_of
from storage.protocol import LedgerReader

PAGE_ROWS = 1000


async def export_lines(
    reader: LedgerReader, tenant_id: str, *, with_facts: bool = False
) -> AsyncIterator[bytes]:
    """The tenant's receipts, oldest first, one JSON object a line.

    With `with_facts` a line also has `facts` and `arguments` (not covered by the hash, and null
    once erased); the verifier leaves them out of account.
    """
    end = (await reader.head(tenant_id)).seq
    after_seq, prev_hash = 0, ""
    while after_seq < end:
        page = await reader.receipts(tenant_id, after_seq, min(PAGE_ROWS, end - after_seq))
        if not page:
            return
        for row in page:
            line = body_of(row, prev_hash)
            line["receipt_hash"] = prev_hash = row.receipt_hash
            after_seq = row.seq
            if with_facts:
                facts = await reader.call_facts(tenant_id, row.seq)
                line["salt"] = facts.salt if facts else None
                line["arguments"] = facts.arguments if facts else None
                line["facts"] = facts.facts if facts else None
            yield orjson.dumps(line, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
