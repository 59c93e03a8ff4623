"""What the store can do on this disk and engine, measured in a scratch store beside the real one:
a file in the same folder, a schema in the same database.

Knows: what a typical call writes, where a scratch store may live, and how to leave nothing behind.
At start it is measured briefly, unless figures of this very place were kept; a disk that is full
or read-only is no reason not to start: the running batches will tell.
Must not know: who asks, how the figures are shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import storage
from sidecar.calibration_file import Figures, Load, Place, date_of, kept_for
from sidecar.clock import Clock
from sidecar.errors import SidecarError
from sidecar.ledger.chain import seal
from sidecar.ledger.commitment import SALT_BYTES
from sidecar.ledger.receipt import blank_receipt
from storage.calibrate import (
    Calibration,
    all_durable,
    calibrate,
    calibrate_for,
    engine_settings,
)
from storage.commit_model import CommitModel
from storage.commit_times import largest_useful_batch, time_commits
from storage.errors import StoreError
from storage.open_loop import offer, quantile
from storage.pressure import ENTRIES_PER_CALL, ceiling_of
from storage.records import CallFactsRow, Entry, OpenIntentRow
from storage.scratch import scratch_schema
from storage.sqlite_file import file_system_of, path_of_url
from storage.write_queue import BATCH_MAX, WriteQueue

_log = logging.getLogger("aegis.store")

_TENANT = "calibration"
_HASH = "0123456789abcdef" * 4
_ARGUMENTS = '{"number":7,"owner":"acme","title":"' + "x" * 200 + '"}'
_FACTS = '{"matches":[["policy/rule","allow","enforce",null]],"method":"POST","path":"/a/b/c"}'

BATCH_CALLS_MAX = BATCH_MAX // ENTRIES_PER_CALL
#: Shares of the ceiling at which calls are offered on a schedule.
LOADS = (0.25, 0.5, 0.75)
#: How the time is divided: the fit, the sizes of a batch, the loads together.
FIT_SHARE, SIZES_SHARE, LOADS_SHARE = 0.3, 0.3, 0.4
#: Calls of one load are made beforehand; more of them would only take memory.
LOAD_CALLS_MAX = 30_000
#: What a scratch store takes at most, with its log: of a fast disk's rate, and at least. The short
#: one of a start takes a third of the least.
SCRATCH_BYTES_PER_S = 64 * 1024**2
SCRATCH_BYTES_MIN = 64 * 1024**2
SYNCS = 100
_SYNC_BYTES = 4096
_MOUNTS = Path("/proc/self/mountinfo")


class CannotCalibrate(SidecarError):
    """The measurement cannot be made here; the message says why."""


async def measure_store(folder: Path, clock: Clock) -> Calibration:
    """Points and hand-over cost for `storage.pressure.Pressure`; empty if it cannot be measured."""
    try:
        free_bytes = _free_bytes(folder)
        if free_bytes < SCRATCH_BYTES_MIN:
            _log.warning(
                "the store is not calibrated: little is free on its disk",
                extra={"free_bytes": free_bytes, "needed_bytes": SCRATCH_BYTES_MIN},
            )
            return Calibration((), 0.0)
        async with _scratch_file(folder, clock) as store:
            return await calibrate(store, seal, lambda: ordinary_call(clock), clock.monotonic_ns)
    except (StoreError, CannotCalibrate) as error:
        code = error.code if isinstance(error, StoreError) else "cannot_calibrate"
        detail = {"code": code, "detail": str(error)}
        _log.warning("the store could not be calibrated", extra=detail)
        return Calibration((), 0.0)


async def kept_figures(store: storage.SqlStore, url: str, folder: Path) -> Figures | None:
    """The figures kept in the data folder, if they hold for this open store; raises StoreError."""
    return kept_for(folder, await place_of(store, url))


async def place_of(store: storage.SqlStore, url: str) -> Place:
    """What figures measured in this store hold for; raises StoreError."""
    facts = store.facts()
    folder = scratch_folder(url)
    return Place(
        host=socket.gethostname(),
        engine=facts.engine,
        engine_version=facts.version,
        file_system=_file_system(folder) if folder is not None else "",
        settings=await engine_settings(store),
        batch_calls_max=BATCH_CALLS_MAX,
    )


def _file_system(folder: Path) -> str:
    """Its type; "" where the system does not tell."""
    try:
        return file_system_of(folder, _MOUNTS.read_text("utf-8", "replace"))
    except OSError:
        return ""


def scratch_folder(url: str) -> Path | None:
    """Where a scratch store has the real one's disk: its folder; None if a server keeps the store.

    Raises UnsupportedStore for a URL that names neither.
    """
    return None if storage.engine_of(url) == "postgres" else path_of_url(url).parent


async def measure_figures(url: str, clock: Clock, seconds: float) -> Figures:
    """Everything `store calibrate` keeps, in about so many seconds; the store is not touched.

    Raises CannotCalibrate or StoreError; then, too, nothing is left behind.
    """
    folder = scratch_folder(url)
    if folder is None:
        async with (
            scratch_schema(url) as scratch_url,
            _opened(scratch_url, clock) as store,
        ):
            return await _measure(store, url, None, clock, seconds)
    _check_room(folder, int(SCRATCH_BYTES_MIN + seconds * SCRATCH_BYTES_PER_S))
    async with _scratch_file(folder, clock) as store:
        return await _measure(store, url, folder, clock, seconds)


def _check_room(folder: Path, needed_bytes: int) -> None:
    """A measurement must not be what fills the disk under a running store."""
    free_bytes = _free_bytes(folder)
    if free_bytes < needed_bytes:
        raise CannotCalibrate(
            f"the scratch store may take {needed_bytes / 1e6:,.0f} MB, and {free_bytes / 1e6:,.0f} "
            f"MB are free in {folder}: free some, or measure for a shorter time with --seconds"
        )


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise CannotCalibrate(f"{folder}: {error.strerror}") from error


async def _measure(
    store: storage.SqlStore, url: str, folder: Path | None, clock: Clock, seconds: float
) -> Figures:
    def make_call() -> tuple[Entry, Entry]:
        return ordinary_call(clock)

    now_ns = clock.monotonic_ns
    sync_s = await asyncio.to_thread(sync_p50_s, folder) if folder is not None else 0.0
    fit = await calibrate_for(store, seal, make_call, now_ns, FIT_SHARE * seconds)
    commits = await time_commits(store, seal, make_call, now_ns, SIZES_SHARE * seconds)
    fixed_s, commit_s = CommitModel(fit.points).fit()
    per_call_s = commit_s + fit.handover_s
    ceiling = ceiling_of(fixed_s, per_call_s, BATCH_CALLS_MAX)
    loads = [
        await _under_load(store, clock, share, ceiling, LOADS_SHARE * seconds / len(LOADS))
        for share in LOADS
    ]
    at_us = clock.now_us()
    return Figures(
        measured_at_us=at_us,
        date=date_of(at_us),
        seconds=seconds,
        place=await place_of(store, url),
        points=fit.points,
        handover_s=fit.handover_s,
        fixed_s=fixed_s,
        per_call_s=per_call_s,
        ceiling_calls_per_s=ceiling,
        largest_useful_batch_calls=largest_useful_batch(commits),
        sync_p50_s=sync_s,
        commits=commits,
        under_load=tuple(loads),
    )


async def _under_load(
    store: storage.SqlStore, clock: Clock, share: float, ceiling: float, seconds: float
) -> Load:
    """What a call meets when calls arrive on a schedule, at a share of the ceiling."""
    rate = share * ceiling
    count = min(LOAD_CALLS_MAX, max(1, int(rate * seconds)))
    calls = [ordinary_call(clock) for _ in range(count)]
    queue = WriteQueue(
        store, seal, capacity=4 * BATCH_MAX, wait_s=30.0, monotonic_ns=clock.monotonic_ns
    )
    # The calls that wait to be offered must not be what the collector looks through meanwhile.
    gc.freeze()
    try:
        served = await offer(queue, calls, rate, clock.monotonic_ns)
        await all_durable(queue)
    finally:
        gc.unfreeze()
        await queue.close()
    return Load(share=share, served=served)


def sync_p50_s(folder: Path) -> float:
    """The median time of a 4 KiB append that is synced; what a commit cannot go below.

    Raises CannotCalibrate if the folder cannot be written.
    """
    path = folder / f".calibration-{os.getpid()}.db.sync"  # swept with the scratch store
    took: list[float] = []
    try:
        with path.open("wb", buffering=0) as handle:
            for _ in range(SYNCS):
                handle.write(b"x" * _SYNC_BYTES)
                started_ns = time.perf_counter_ns()
                os.fdatasync(handle.fileno())
                took.append((time.perf_counter_ns() - started_ns) / 1e9)
    except OSError as error:
        raise CannotCalibrate(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        path.unlink(missing_ok=True)
    return quantile(sorted(took), 0.5)


# -- the scratch store ---------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _scratch_file(folder: Path, clock: Clock) -> AsyncIterator[storage.SqlStore]:
    """A fresh store in `folder`, gone afterwards; those that a kill left behind go first."""
    scratch = folder / f".calibration-{os.getpid()}.db"
    _sweep(folder)
    try:
        async with _opened(f"sqlite:///{scratch}", clock) as store:
            yield store
    finally:
        _remove(scratch)


@contextlib.asynccontextmanager
async def _opened(url: str, clock: Clock) -> AsyncIterator[storage.SqlStore]:
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        yield store
    finally:
        await store.close()


def _sweep(folder: Path) -> None:
    """Removes scratch stores whose process is gone: their lock can be had."""
    for lock in folder.glob(".calibration-*.db.lock"):
        try:
            with lock.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock.with_suffix(""))
        except OSError:
            continue  # it is held, or not ours to remove


def _remove(scratch: Path) -> None:
    """The scratch store and the files the engine puts beside it."""
    for path in scratch.parent.glob(f"{scratch.name}*"):
        path.unlink(missing_ok=True)


# -- what a call writes --------------------------------------------------------------------


_INTENT = blank_receipt(
    _TENANT, "intent", event_id="", call_id="", ts_us=0, agent_id="agent"
)._replace(
    upstream="upstream",
    tool="upstream/operation",
    action="tools/call",
    source_trust="trusted_internal_unsigned",
    decision="allow",
    mode="enforce",
    rule_id="policy/rule",
    rule_hash=_HASH[:32],
    policy_revision=_HASH[:32],
    request_sha256=_HASH,
    args_commitment=_HASH,
)
_OUTCOME = blank_receipt(
    _TENANT, "outcome", event_id="", call_id="", ts_us=0, agent_id="agent",
    outcome="completed", http_status=200,
)  # fmt: skip
_CALL_FACTS = CallFactsRow(_TENANT, 0, _HASH[: 2 * SALT_BYTES], _ARGUMENTS, _FACTS)


def ordinary_call(clock: Clock) -> tuple[Entry, Entry]:
    """The intent and the outcome of a call of ordinary size.

    A start makes thousands of them: each is a copy of one that was put together once.
    """
    call_id, at_us = clock.new_id(), clock.now_us()
    return (
        Entry(
            _INTENT._replace(event_id=call_id, call_id=call_id, ts_us=at_us),
            _CALL_FACTS,
            OpenIntentRow(_TENANT, call_id, "node", "boot"),
        ),
        Entry(
            _OUTCOME._replace(event_id=clock.new_id(), call_id=call_id, ts_us=at_us),
            closes=call_id,
        ),
    )
