"""Runs on two nodes whose clocks differ, each within what NTP-less hosts are tolerated (5 min)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from test_ledger_runs import MINUTE_US, SEND, VAULT, Clock, Node

import storage
from sidecar.ledger.run_keeper import RunBefore


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[storage.SqlStore]:
    store = await storage.open_store(
        f"sqlite:///{tmp_path}/aegis.db", now_us=lambda: 1, node_id="n"
    )
    yield store
    await store.close()


async def test_a_node_whose_clock_is_five_minutes_ahead_ends_no_run_early(
    store: storage.SqlStore,
) -> None:
    """Idle is ten minutes here: after seven minutes of silence what was read is still known."""
    here, ahead = Clock(), Clock()
    ahead.us += 5 * MINUTE_US
    ahead.new_id = here.new_id  # type: ignore[method-assign]
    first, second = Node(store, here, is_alone=False), Node(store, ahead, is_alone=False)
    await first.goes_ahead(VAULT)
    for clock in (here, ahead):
        clock.passes(7 * MINUTE_US)
    met = await second.goes_ahead(SEND, reads_run=True)
    assert isinstance(met, RunBefore) and met.state.labels == {"reads-private"}
