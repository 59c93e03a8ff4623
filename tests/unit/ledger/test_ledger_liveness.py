"""What a chain tells of whether its sidecar ran, by nothing but its receipts."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ledger_setup import START_US, SteadyClock, draft, lines_of

import storage
from sidecar.cli.chosen_store import print_reports
from sidecar.cli.main import main
from sidecar.ledger import stored_chain
from sidecar.ledger.boot_entries import (
    NO_STOP,
    STOPPED,
    UNKNOWN,
    Before,
    Boot,
    alive,
    read_boot,
    started,
    stopped,
)
from sidecar.ledger.chain import seal
from sidecar.ledger.liveness import SHOWN_MAX, SignsOfLife
from sidecar.ledger.store_entries import fenced, moved, unfenced
from sidecar.ledger.stored_chain import verify_chain
from sidecar.ledger.verify import Verdict, verify_lines
from storage.marks import FenceMark
from storage.records import Entry, HeadRow, ReceiptRow

HOUR_US = 3_600_000_000
MINUTE_US = HOUR_US // 60
ONE = Boot("n1", "boot-1", HOUR_US)
TWO = Boot("n1", "boot-2", HOUR_US)
CLOCK = SteadyClock()
NOTHING = Before("", UNKNOWN)
MARK = FenceMark("f", "elsewhere", "n1", "a move", 0)


def start(boot: Boot = ONE, before: Before = NOTHING) -> ReceiptRow:
    return started(CLOCK, "default", boot, before).receipt


def beat(boot: Boot = ONE) -> ReceiptRow:
    return alive(CLOCK, "default", boot).receipt


def stop(boot: Boot = ONE) -> ReceiptRow:
    return stopped(CLOCK, "default", boot, 0).receipt


def fence(*, up: bool) -> ReceiptRow:
    made = fenced(CLOCK, "default", "ana", MARK) if up else unfenced(
        CLOCK, "default", "ana", MARK, ""
    )  # fmt: skip
    return made.receipt


def drafts(told: Sequence[tuple[float, ReceiptRow]]) -> list[ReceiptRow]:
    """Receipts to be, each so many hours after the first moment."""
    return [
        row._replace(ts_us=START_US + round(hours * HOUR_US), event_id=f"{number:032x}")
        for number, (hours, row) in enumerate(told)
    ]


def lines(told: Sequence[tuple[float, ReceiptRow]]) -> list[bytes]:
    """A chain of them."""
    rows = seal({"default": HeadRow("default", 0, "", 0, "", 0)}, drafts(told)).rows
    return lines_of([row for row in rows if isinstance(row, ReceiptRow)])


def found(*told: tuple[float, ReceiptRow]) -> Verdict:
    verdict = verify_lines(lines(told))
    assert verdict.holds, verdict.fault
    return verdict


def silences(verdict: Verdict) -> list[tuple[int, float]]:
    """After which receipt, and for how many hours."""
    assert verdict.silence_count == len(verdict.silences)
    return [(one.after_seq, (one.until_us - one.from_us) / HOUR_US) for one in verdict.silences]


def test_a_chain_that_tells_nothing_of_its_sidecar_promises_nothing() -> None:
    verdict = found((0, draft(1)), (900, draft(2)))
    assert (silences(verdict), verdict.runs, verdict.promised_us) == ([], None, 0)


def test_a_silence_is_told_while_a_boot_ran_and_promised_a_heartbeat() -> None:
    verdict = found((0, start()), (1, beat()), (6, draft(1)), (7, stop()), (99, start(TWO)))
    assert silences(verdict) == [(2, 5.0)]
    assert verdict.silences[0].heartbeat_us == HOUR_US
    assert verdict.runs is True and verdict.promised_us == HOUR_US


@pytest.mark.parametrize(
    ("hours", "told"), [(0.5, False), (1.0, False), (1.1, False), (1.11, True), (2, True)]
)
def test_a_heartbeat_may_come_a_little_late(hours: float, told: bool) -> None:
    assert bool(silences(found((0, start()), (hours, draft(1))))) is told


def test_after_a_stop_nothing_is_due() -> None:
    verdict = found((0, start()), (1, stop()), (50, start(TWO, Before("boot-1", STOPPED))))
    assert silences(verdict) == [] and verdict.unstopped_count == 0
    verdict = found((0, start()), (1, stop()))
    assert (verdict.runs, verdict.promised_us) == (False, 0)


def test_a_boot_without_a_stop_is_told_by_the_next_one() -> None:
    verdict = found((0, start()), (9, start(TWO, Before("boot-1", NO_STOP))), (9.5, stop(TWO)))
    assert [(one.seq, one.boot) for one in verdict.unstopped] == [(2, "boot-1")]
    assert silences(verdict) == [(1, 9.0)]
    assert verdict.runs is False, "the one before is over too"


def test_of_several_nodes_each_keeps_its_word_until_its_own_stop() -> None:
    other = Boot("n2", "boot-9", 2 * HOUR_US)
    verdict = found((0, start()), (0.5, start(other)), (0.6, stop()), (2.5, beat(other)))
    assert silences(verdict) == [] and verdict.promised_us == 2 * HOUR_US
    verdict = found((0, start()), (0.5, start(other)), (0.6, stop(other)), (2.5, beat()))
    assert silences(verdict) == [(3, 1.9)]


def test_no_heartbeat_promises_nothing_and_a_later_one_says_what_holds_now() -> None:
    off, on = ONE._replace(heartbeat_us=0), ONE
    verdict = found((0, start(off)), (50, draft(1)), (51, beat(on)), (53, draft(2)))
    assert silences(verdict) == [(3, 2.0)]
    assert found((0, start(off)), (50, draft(1))).runs is True


def test_behind_a_fence_and_in_a_store_that_was_moved_nothing_is_due() -> None:
    verdict = found(
        (0, start()), (0.1, fence(up=True)), (9, fence(up=False)), (9.5, draft(1)), (12, draft(2))
    )
    assert silences(verdict) == [(4, 2.5)]
    there = moved(CLOCK, "default", "ana", "here", "there", 2).receipt
    verdict = found((0, start()), (0.1, fence(up=True)), (1, there), (50, start(TWO)))
    assert silences(verdict) == [] and verdict.promised_us == HOUR_US


def test_many_silences_are_counted_and_the_first_are_spelled_out() -> None:
    told = [(0.0, start()), *((2.0 * number, draft(number)) for number in range(1, 41))]
    verdict = verify_lines(lines(told))
    assert (verdict.silence_count, len(verdict.silences)) == (40, SHOWN_MAX)


@pytest.mark.parametrize(
    "resource",
    [None, "", "{", "[]", '{"boot":7}', '{"heartbeat_us":1}', '{"boot":"b","heartbeat_us":true}',
     '{"boot":"b","heartbeat_us":-1}', '{"boot":"b","heartbeat_us":"x","before":7}',
     '{"boot":"b","before":{"boot":[],"ended":{}}}'],
)  # fmt: skip
def test_what_no_sidecar_says_ends_no_verifier(resource: str | None) -> None:
    odd = start()._replace(resource=resource)
    verdict = found((0, odd), (50, odd), (90, draft(1)))
    assert silences(verdict) == []


def test_what_a_receipt_says_stands_in_it_in_clear() -> None:
    entry = started(CLOCK, "default", ONE, Before("boot-0", NO_STOP))
    assert entry.receipt.resource == (
        '{"before":{"boot":"boot-0","ended":"no_stop"},"boot":"boot-1","heartbeat_us":3600000000}'
    )
    assert entry.audit is not None and entry.facts is None
    assert json.loads(entry.audit.after_state)["node"] == entry.audit.subject == "n1"
    assert entry.audit.reason == "the boot before ended without a stop on record"
    assert alive(CLOCK, "default", ONE).audit is None, "nothing has changed"
    assert read_boot(stop().resource) == {"boot": "boot-1", "open_calls": 0}


def said(folder: Path, capsys: pytest.CaptureFixture[str], *told: Any) -> tuple[int, str]:
    path = folder / "r.jsonl"
    path.write_bytes(b"".join(lines(told)))
    return main(["receipts", "verify", str(path)]), capsys.readouterr().out


def test_the_verifier_tells_of_it_and_the_chain_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = said(
        tmp_path, capsys, (0, start()), (5.05, draft(1)),
        (5.5, start(TWO, Before("boot-1", NO_STOP))),
    )  # fmt: skip
    assert code == 0
    assert (
        "silent for 5 h 3 min after receipt 1 (2026-01-01T00:00:00+00:00): a receipt was due every "
        "1h, and no stop is on record\n"
        "no stop is on record of the boot before receipt 3 ('boot-1'): a crash, a kill, or an end "
        "that was cut off\n"
        "at its end the sidecar ran, and a receipt was due every 1h; the last receipt is of "
        "2026-01-01T05:30:00+00:00\n"
    ) in out
    code, out = said(tmp_path, capsys, (0, start()), (1, stop()))
    assert "at its end the sidecar had stopped, by its own record" in out and "silent" not in out
    code, out = said(tmp_path, capsys, (0, draft(1)), (99, draft(2)))
    assert "sidecar" not in out and "silent" not in out


@asynccontextmanager
async def stored(
    folder: Path, told: Sequence[tuple[float, ReceiptRow]]
) -> AsyncIterator[storage.SqlStore]:
    """The chain in a store."""
    url = f"sqlite:///{folder}/alive.db"
    store = await storage.open_store(url, now_us=lambda: START_US, node_id="n1")
    try:
        await store.record([Entry(row) for row in drafts(told)], seal)
        yield store
    finally:
        await store.close()


def signs(verdict: Verdict) -> SignsOfLife:
    """What a file of the chain tells."""
    return SignsOfLife(
        verdict.silence_count, verdict.silences, verdict.unstopped_count, verdict.unstopped,
        verdict.runs, verdict.promised_us, verdict.last_us,
    )  # fmt: skip


def any_story(rng: random.Random) -> list[tuple[float, ReceiptRow]]:
    """Boots, calls and fences at any hours."""
    told, hours = list[tuple[float, ReceiptRow]](), 0.0
    for number in range(24):
        hours += rng.choice((0.1, 0.9, 1.5, 4.0))
        boot = rng.choice((ONE, TWO, ONE._replace(heartbeat_us=0)))
        made = (
            draft(number), draft(number), beat(boot), start(boot, Before("boot-1", NO_STOP)),
            stop(boot), fence(up=rng.random() < 0.5),
        )  # fmt: skip
        told.append((hours, rng.choice(made)))
    return told


@pytest.mark.parametrize("seed", range(5))
async def test_a_stored_chain_tells_the_same_wherever_its_stretches_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    told = [(0.0, start()), *any_story(random.Random(seed))]
    wanted = signs(found(*told))
    assert wanted.silence_count, "positive control"
    async with stored(tmp_path, told) as store:
        report = await verify_chain(store, "default")
        assert (report.fault, report.alive) == (None, wanted)
        for rows in (1, 2, 3, 7, len(told)):
            monkeypatch.setattr(stored_chain, "PAGE_ROWS", rows)
            assert (await verify_chain(store, "default")).alive == wanted, rows


async def test_commands_that_verify_a_store_tell_of_it_and_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = start(TWO, Before("boot-1", NO_STOP))
    async with stored(tmp_path, [(0, start()), (5.05, draft(1)), (5.5, again)]) as store:
        assert print_reports([await verify_chain(store, "default")])
    assert (
        "    silent for 5 h 3 min after receipt 1 (2026-01-01T00:00:00+00:00): a receipt was due "
        "every 1h, and no stop is on record\n"
        "    no stop is on record of the boot before receipt 3 ('boot-1'): a crash, a kill, or an "
        "end that was cut off\n"
        "    at its end the sidecar ran, and a receipt was due every 1h; the last receipt is of "
        "2026-01-01T05:30:00+00:00\n"
    ) in capsys.readouterr().out
