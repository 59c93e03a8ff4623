"""What an entry rests on, and what it takes: epoch, run, an approval, room in buckets of limits.

Knows: which runs, approvals and buckets a batch has to be told of, that entries are looked at in
their order (what one makes of its run or takes from a bucket counts for those after it), and that
an entry without a yes or without room is recorded as another one, in the same transaction.
Must not know: what states of runs, approvals and buckets mean, the engine, how entries are written.
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
from storage.standing import ApprovalRow

Statements = Mapping[str, str]
#: Tenant and key of a run.
RunKey = tuple[str, str]
#: Tenant, limit and name of a bucket.
BucketKey = tuple[str, str, str]
#: Tenant and id of an approval.
ApprovalKey = tuple[str, str]

#: A run of which nothing is kept.
NO_RUN = RunHead(0, "")


class Buckets(NamedTuple):
    """States of the buckets a batch asks for; `at_us` by the server's clock, None of a file."""

    states: Mapping[BucketKey, str]
    at_us: int | None


NO_BUCKETS = Buckets({}, None)


class Approvals(NamedTuple):
    """Approvals as they stand; `at_us` by the server's clock, None of a file."""

    rows: Mapping[ApprovalKey, ApprovalRow]
    at_us: int | None


NO_APPROVALS = Approvals({}, None)


class Read(NamedTuple):
    """All that a batch has to be told of."""

    heads: Mapping[str, HeadRow]
    runs: Mapping[RunKey, RunHead]
    buckets: Buckets = NO_BUCKETS
    approvals: Approvals = NO_APPROVALS


class Refusal(NamedTuple):
    """A reservation that had no room, or an approval that would not have it (`why`); `instead` is
    what is recorded in place of the entry, if anything."""

    instead: Entry | None
    no_room: tuple[int, Full] | None = None
    why: str = ""
    approval: ApprovalRow | None = None


class Checked(NamedTuple):
    """What came of the guards, by the position of entries in the batch.

    `accepted` are those to be recorded, in order, some in place of others: those are in `refused`.
    `left` are runs as entries left them; `runs` and `buckets` what is to stand in the store
    afterwards (of buckets only those that changed), `approvals` the rows that changed. `epochs`
    are those that entries raised.
    """

    accepted: Sequence[Entry]
    stale: Mapping[int, Stale]
    refused: Mapping[int, Refusal]
    left: Mapping[int, RunHead]
    runs: Mapping[RunKey, RunHead]
    buckets: Mapping[BucketKey, Room]
    approvals: Mapping[ApprovalKey, ApprovalRow]
    epochs: Mapping[str, int]


# -- what has to be read ---------------------------------------------------------------------


def run_of(entry: Entry) -> RunKey:
    """The run an entry has to do with."""
    receipt = entry.receipt
    return receipt.tenant_id, entry.run_key or receipt.agent_id or ""


def runs_to_read(entries: Sequence[Entry]) -> set[RunKey]:
    """The runs a batch needs: to check, or to step."""
    return {
        run_of(entry)
        for entry in entries
        if entry.run_version is not None or entry.run_step is not None
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


def read_approvals(sql: Statements, entries: Sequence[Entry]) -> Script[Approvals]:
    """The approvals of entries that have a ticket, one by one: they are rare."""
    wanted = sorted(
        {
            (entry.receipt.tenant_id, entry.ticket.approval_id)
            for entry in entries
            if entry.ticket is not None
        }
    )
    if not wanted:
        return NO_APPROVALS
    found: dict[ApprovalKey, ApprovalRow] = {}
    for key in wanted:
        rows = yield from fetch(sql["approval"], *key)
        if rows:
            found[key] = ApprovalRow._make(rows[0])
    at_us = None
    if "server_clock" in sql:
        at_us = (yield from fetch(sql["server_clock"]))[0][0]
    return Approvals(found, at_us)


# -- what comes of it ------------------------------------------------------------------------


def check(entries: Sequence[Entry], read: Read) -> Checked:
    """Looks at the guards of all entries, in order. Pure."""
    heads = read.heads
    stale: dict[int, Stale] = {}
    refused: dict[int, Refusal] = {}
    left: dict[int, RunHead] = {}
    after = dict(read.runs)
    taken: dict[BucketKey, Room] = {}
    moved: dict[ApprovalKey, ApprovalRow] = {}
    epochs: dict[str, int] = {}
    for position, entry in enumerate(entries):
        concerns_run = entry.run_version is not None or entry.run_step is not None
        asks = entry.reserves is not None or entry.ticket is not None
        if entry.epoch is None and not concerns_run and not asks and not entry.raises_epoch:
            continue
        tenant_id = entry.receipt.tenant_id
        epoch = epochs[tenant_id] if tenant_id in epochs else heads[tenant_id].epoch
        holds = entry.epoch is None or entry.epoch == epoch
        if holds and not concerns_run and not asks and not entry.raises_epoch:
            continue
        key = run_of(entry)
        run = after.get(key, NO_RUN)
        if not holds or (entry.run_version is not None and entry.run_version != run.version):
            stale[position] = Stale(epoch, run if concerns_run else None)
            continue
        recorded: Entry | None = entry
        if asks and (refusal := _refusal(entry, read, taken, moved)) is not None:
            refused[position], recorded = refusal, refusal.instead
        if recorded is None:
            continue
        if recorded.raises_epoch:
            epochs[tenant_id] = epoch + 1
        if not concerns_run:
            continue
        if recorded.run_step is not None:
            state = recorded.run_step(run.state)
            if state != run.state:
                run = after[key] = RunHead(run.version + 1, state)
        left[position] = run
    accepted = entries
    if stale or refused:
        standing = (
            refused[position].instead if position in refused else entry
            for position, entry in enumerate(entries)
            if position not in stale
        )
        accepted = [entry for entry in standing if entry is not None]
    return Checked(accepted, stale, refused, left, after, taken, moved, epochs)


def _refusal(
    entry: Entry,
    read: Read,
    taken: dict[BucketKey, Room],
    moved: dict[ApprovalKey, ApprovalRow],
) -> Refusal | None:
    """None if the entry has its yes and its room, which are then taken: both, or neither."""
    stepped: ApprovalRow | None = None
    key = ("", "")
    if entry.ticket is not None:
        ticket = entry.ticket
        key = (entry.receipt.tenant_id, ticket.approval_id)
        before = moved.get(key) or read.approvals.rows.get(key)
        at_us = ticket.at_us if read.approvals.at_us is None else read.approvals.at_us
        answer = ticket.step(before, at_us)
        if isinstance(answer, str):
            return Refusal(ticket.instead(answer), why=answer, approval=before)
        stepped = answer
    if entry.reserves is not None and (no_room := _reserve(entry, read.buckets, taken)):
        return Refusal(entry.reserves.instead(*no_room), no_room)
    if stepped is not None:
        moved[key] = stepped
    return None


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
