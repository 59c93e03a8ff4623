"""What is over is ended, whatever the machine did meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.approvals import sweeping
from sidecar.approvals.register import Register
from storage.standing import ApprovalRow

HOUR_US = 3_600_000_000


class _Changes:
    """A clock of its own, and what was ended."""

    def __init__(self) -> None:
        self.register = Register()
        self.at_us = 0
        self.ended: list[str] = []

    def now_us(self) -> int:
        return self.at_us

    async def expire(self, row: ApprovalRow) -> bool:
        self.ended.append(row.approval_id)
        self.register.forget((row.tenant_id, row.approval_id))
        return True


async def test_an_approval_that_ran_out_while_the_machine_slept_is_ended_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Timers stand still in a suspend: it stayed open, on record and for sinks, as long again."""
    monkeypatch.setattr(sweeping, "WAIT_S_MAX", 0.02)
    row = ApprovalRow(
        "default", "a" * 32, 1, "pending", "", "agent", "", "up/do", "", "", "", 0, HOUR_US, 0, ""
    )

    async def approval(*_: str) -> ApprovalRow:
        return row

    async def tenants() -> list[str]:
        return []

    reader: Any = SimpleNamespace(approval=approval, tenants=tenants)
    changes: Any = _Changes()
    changes.register.opened(row)
    task = asyncio.ensure_future(sweeping.sweep(changes, reader, is_alone=True))
    await asyncio.sleep(0.1)
    assert changes.ended == []
    changes.at_us = 2 * HOUR_US
    async with asyncio.timeout(5):
        while not changes.ended:
            await asyncio.sleep(0.01)
    task.cancel()
    assert changes.ended == [row.approval_id]
