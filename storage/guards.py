"""What an entry rests on, and what it takes: epoch, run, and room in the buckets of limits.

Knows: which runs and buckets a batch has to be told of, that entries are looked at in their order
(what one makes of its run or takes from a bucket counts for those after it), and that an entry
without room is recorded as another one, in the same transaction.
Must not know: what states of runs and buckets mean, the engine, how entries are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from storage.driver import Script, fetch
from storage.records import (
    BucketRow,
    Entry,
    Full,
    HeadRow,
    Room,
    RunHead,
    Stale,
)

Statements = Mapping[str, str]
#: Tenant and key of a run.
RunKey = tuple[str, str]
#: Tenant, limit and name of a bucket.
BucketKey = tuple[str, str, str]

#: A run of which nothing is kept.
NO_RUN = RunHead(0, "")


class Buckets(NamedTuple):
    """States of the buckets a batch asks for; `at_us` by the server's clock, None of a file."""

    states: Mapping[BucketKey, str]
    at_us: int | None


NO_BUCKETS = Buckets({}, None)


class Checked(NamedTuple):
    """What came of the guards, by the position of entries in the batch.

    `accepted` are those to be recorded, in order, some in place of others: those stand in `full`,
    with the reservation that had no room. `left` are runs as entries left them; `runs` and
    `buckets` what is to stand in the store afterwards (of buckets only those that changed).
    """

    accepted: Sequence[Entry]
    stale: Mapping[int, Stale]
    full: Mapping[int, tuple[int, Full, Entry]]
    left: Mapping[int, RunHead]
    runs: Mapping[RunKey, RunHead]
    buckets: Mapping[BucketKey, Room]


# -- what has to be read ---------------------------------------------------------------------


def run_of(entry: Entry) -> RunKey:
    """The run an entry has to do with."""
    receipt = entry.receipt
    return receipt.tenant_id, entry.run_key or receipt.agent_id or ""


def runs_to_read(entries: Sequence[Entry], heads: Mapping[str, HeadRow]) -> set[RunKey]:
    """The runs a batch needs: to check, to step, or to tell an entry what it is stale against."""
    return {
        run_of(entry)
        for entry in entries
        if entry.run_version is not None
        or entry.run_step is not None
        or (entry.epoch is not None and entry.epoch != heads[entry.receipt.tenant_id].epoch)
    }


def read_runs(sql: Statements, runs: set[RunKey]) -> Script[dict[RunKey, RunHead]]:
    """Their versions and states, all in one question."""
    if not runs:
        return {}
    wanted = sorted(runs)
    rows = yield from fetch(sql["run_heads"], json.dumps(wanted))
    found = {(row[0], row[1]): RunHead(row[2], row[3]) for row in rows}
    return {run: found.get(run, NO_RUN) for run in wanted}


def read_buckets(sql: Statements, entries: Sequence[Entry]) -> Script[Buckets]:
    """The buckets that entries reserve in, all in one question."""
    wanted = sorted(
        {
            (entry.receipt.tenant_id, one.limit_id, one.bucket)
            for entry in entries
            if entry.reserves is not None
            for one in entry.reserves.wanted
        }
    )
    if not wanted:
        return NO_BUCKETS
    rows = yield from fetch(sql["limit_buckets"], json.dumps(wanted))
    return Buckets({(row[0], row[1], row[2]): row[3] for row in rows}, rows[0][4])


# -- what comes of it ------------------------------------------------------------------------


def check(
    entries: Sequence[Entry],
    heads: Mapping[str, HeadRow],
    runs: Mapping[RunKey, RunHead],
    buckets: Buckets,
) -> Checked:
    """Looks at the guards of all entries, in order. Pure."""
    stale: dict[int, Stale] = {}
    full: dict[int, tuple[int, Full, Entry]] = {}
    left: dict[int, RunHead] = {}
    after = dict(runs)
    taken: dict[BucketKey, Room] = {}
    for position, entry in enumerate(entries):
        concerns_run = entry.run_version is not None or entry.run_step is not None
        if entry.epoch is None and not concerns_run and entry.reserves is None:
            continue
        epoch = heads[entry.receipt.tenant_id].epoch
        holds = entry.epoch is None or entry.epoch == epoch
        if holds and not concerns_run and entry.reserves is None:
            continue
        key = run_of(entry)
        run = after.get(key, NO_RUN)
        if not holds or (entry.run_version is not None and entry.run_version != run.version):
            stale[position] = Stale(epoch, run)
            continue
        recorded = entry
        if entry.reserves is not None and (no_room := _reserve(entry, buckets, taken)):
            recorded = entry.reserves.instead(*no_room)
            full[position] = (*no_room, recorded)
        if not concerns_run:
            continue
        if recorded.run_step is not None:
            state = recorded.run_step(run.state)
            if state != run.state:
                run = after[key] = RunHead(run.version + 1, state)
        left[position] = run
    accepted = entries
    if stale or full:
        accepted = [
            full[position][2] if position in full else entry
            for position, entry in enumerate(entries)
            if position not in stale
        ]
    return Checked(accepted, stale, full, left, after, taken)


def _reserve(
    entry: Entry, buckets: Buckets, taken: dict[BucketKey, Room]
) -> tuple[int, Full] | None:
    """Takes all the room an entry needs, or gives the reservation without room whose bucket is
    full for longest."""
    reserves, tenant_id = entry.reserves, entry.receipt.tenant_id
    if reserves is None:
        return None
    at_us = reserves.at_us if buckets.at_us is None else buckets.at_us
    rooms: dict[BucketKey, Room] = {}
    failed: tuple[int, Full] | None = None
    for position, one in enumerate(reserves.wanted):
        key = (tenant_id, one.limit_id, one.bucket)
        before = rooms.get(key) or taken.get(key)
        state = buckets.states.get(key, "") if before is None else before.state
        answer = one.take(state, at_us)
        if isinstance(answer, Room):
            rooms[key] = answer
        elif failed is None or answer.wait_us > failed[1].wait_us:
            failed = (position, answer)
    if failed is None:
        taken.update(rooms)
    return failed


def bucket_rows(taken: Mapping[BucketKey, Room]) -> list[BucketRow]:
    """What of the buckets is to be written, in one order everywhere."""
    return [BucketRow(*key, room.state, room.until_us) for key, room in sorted(taken.items())]
