"""Recorded calls read back, page by page, and given to a replay.

Knows: which receipts tell of a call, and that what cannot be judged again is counted by its cause.
Must not know: where the policies come from, how what came of it is shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from sidecar.ledger.recorded_call import NotReplayable, recorded_call
from sidecar.policy.replay import Replay
from storage.records import RecordedEvent
from storage.sql_store import SqlReader

PAGE_ROWS: Final = 1000

#: Receipts that tell of a call, each with what stands beside it.
Page = Sequence[RecordedEvent]


async def recorded_pages(
    reader: SqlReader, tenant_id: str, after_seq: int, until_seq: int, page_rows: int = PAGE_ROWS
) -> AsyncIterator[tuple[int, Page]]:
    """Pages of the calls among receipts with after_seq < seq <= until_seq, oldest first, each with
    the seq up to which it reads. Raises a StoreError of reading."""
    while after_seq < until_seq:
        limit = min(page_rows, until_seq - after_seq)
        recorded = await reader.recorded_after(tenant_id, after_seq, limit)
        if not recorded:
            return
        after_seq = recorded[-1].receipt.seq
        yield (
            after_seq,
            [
                one
                for one in recorded
                if one.receipt.seq <= until_seq and one.receipt.kind in ("intent", "refusal")
            ],
        )


def judge_page(replay: Replay, page: Page) -> None:
    """Judges every call of a page again. Computes; reads nothing."""
    for receipt, beside in page:
        try:
            recorded = recorded_call(receipt, beside)
        except NotReplayable as error:
            replay.skip(error.cause)
            continue
        replay.add(
            recorded.principal,
            recorded.call,
            recorded.at_us,
            recorded.hidden,
            effect_then=recorded.effect,
            code_then=recorded.code,
            rule_then=recorded.rule_id,
            revision_then=recorded.revision,
            run=recorded.run,
        )
