"""A slice of the API's benchmark: pages over a store that was filled for them, and that a filter
which fits rarely is followed to what it fits. Speeds are not asserted: machines are shared.
"""

from __future__ import annotations

from pathlib import Path

import api_lists
import api_store

from storage import listings


async def test_pages_of_a_filled_store_are_measured(tmp_path: Path) -> None:
    found = await api_lists.run(f"sqlite:///{tmp_path}/aegis.db", 12_000, 2)
    assert found["receipts"] > 12_000 * 15 // 8
    worst = max(found["worst_p99_ms"], found["worst_console_p99_ms"])
    assert worst == max(one["p99_ms"] for one in found["pages"].values()) > 0
    assert len(found["pages"]) == len(api_lists.PAGES) + 4 + len(api_lists.CONSOLE) + 2
    pages = -(-found["receipts"] // listings.RECEIPTS_LOOKED_AT)
    assert pages <= found["rare"]["pages"] <= pages + 1, "so many rows a page, and no more"
    assert api_store.RARE_CALLS == 3
