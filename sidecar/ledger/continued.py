"""Which call another one goes on with, found in the record itself.

Knows: that an MCP server may answer a call by asking for more, with a state that the next call
brings back (revision 2026-07-28), and that the digest of that state stands beside the outcome of
the first and beside the intent of the second. So the two are linked on whatever node they were
made, and by whoever has an export.
Must not know: what a state holds, MCP messages.
"""

from __future__ import annotations

from typing import Final

import orjson

from storage.retention import CareReader
from storage.sql_store import SqlReader

#: Receipts whose facts are read at once.
PAGE_RECEIPTS: Final = 500
#: How far back an answer is looked for; who is asked answers within minutes, or days.
SEARCHED_RECEIPTS_MAX: Final = 200_000


async def call_answered_with(
    reader: SqlReader, tenant_id: str, digest: str, near_seq: int
) -> str | None:
    """The call whose outcome has this digest beside it: the last one up to `near_seq`, or shortly
    after (an outcome may be recorded behind what follows from it). None if there is none within
    SEARCHED_RECEIPTS_MAX, or its facts were erased."""
    care = CareReader(reader)
    until = near_seq + PAGE_RECEIPTS
    last = max(0, near_seq - SEARCHED_RECEIPTS_MAX)
    while until > last:
        after = max(last, until - PAGE_RECEIPTS)
        for seq, facts in await care.facts_saying(tenant_id, after, until, digest):
            if (orjson.loads(facts).get("mcp") or {}).get("request_state") == digest:
                receipts = await reader.receipts(tenant_id, seq - 1, 1)
                return receipts[0].call_id if receipts else None
        until = after
    return None
