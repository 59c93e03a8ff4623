"""Two nodes send their heads to one witness."""

from __future__ import annotations

from pathlib import Path

from ledger_checkpoint_setup import checkpointer, opened, record
from test_ledger_witness_target import Witness, ended, listening, one_turn


async def test_a_head_that_another_node_has_outrun_at_the_witness_is_not_kept_for_ever(
    tmp_path: Path,
) -> None:
    witness = Witness()
    async with listening(witness) as url, opened(tmp_path) as store:
        one, two = (checkpointer(store, f"{url}#{witness.vkey}") for _ in range(2))
        await record(store, 3)
        await one.turn(is_last=True)  # signed; what it sends is under way, or the node is stopped
        await record(store, 2)
        assert await one_turn(two)
        assert [size for size, _ in witness.heads.values()] == [5]
        for _ in range(3):
            await one.exporters[0].deliver_all()
        try:
            assert one.exporters[0].failures_total == {}, "the witness has a later head of ours"
            assert one.exporters[0].lag_s() == 0.0
            assert await one.exporters[0].deliver_all()
        finally:
            await ended(one)
            await ended(two)
