"""A18: the wall clock jumps under a running sidecar and between two boots."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

from ledger_setup import SteadyClock, call, decision, ledger, principal

from sidecar.ledger.chain import seal
from sidecar.ledger.export import export_lines
from sidecar.ledger.recorder import Intent
from sidecar.ledger.recovery import recover
from sidecar.ledger.verify import verify_lines
from sidecar.model import Outcome, OutcomeKind

HOUR_US = 3_600_000_000


async def test_a18_an_hour_back_and_forth_neither_reorders_nor_turns_time_back(
    tmp_path: Path,
) -> None:
    clock = SteadyClock()
    truth: list[int] = []
    #: An NTP step, a leap second, a virtual machine that was asleep: back, forth, back again.
    jumps = (0, -HOUR_US, 2 * HOUR_US, -1_000_000, -HOUR_US, 0)
    async with ledger(tmp_path, clock=clock) as first:
        for number, jump_us in enumerate(jumps):
            clock.us += jump_us
            truth.append(clock.us)
            async with asyncio.timeout(5):  # nobody waits an hour for a commit
                intent = await first.recorder.intent(
                    principal(), call(f"{number:032x}"), decision()
                )
            assert isinstance(intent, Intent) and intent.seq == 2 * number + 1
            first.recorder.outcome(intent, Outcome(OutcomeKind.COMPLETED, 200))
            rows = await first.rows()
        assert any(later < earlier for earlier, later in pairwise(truth)), "positive control"
    # The next boot begins with the clock two hours behind what is on record, and with a call open.
    clock.us -= 2 * HOUR_US
    async with ledger(tmp_path, clock=clock, boot_id="boot-2") as second:
        left = await second.recorder.intent(principal(), call(f"{99:032x}"), decision())
        assert isinstance(left, Intent)
        left.slot.release()
        assert await recover(second.store, seal, clock, boot_id="boot-3") == 1
        rows = await second.rows()
        lines = [line async for line in export_lines(second.store, "default")]
    assert [row.seq for row in rows] == list(range(1, 2 * len(jumps) + 3))
    assert all(earlier.ts_us <= later.ts_us for earlier, later in pairwise(rows))
    assert verify_lines(lines).holds
    # A time that was held back is marked by being that of the receipt before it.
    held = [row for before, row in pairwise(rows) if row.ts_us == before.ts_us]
    assert rows[-1].kind == "recovery" and rows[-1] in held
    # Forward, a jump is taken as it is: nothing tells it from time that has passed.
    assert rows[4].ts_us - rows[3].ts_us > HOUR_US // 2
