"""The run that is recorded: a store's life of several boots, each a process of its own.

    python power_cut_record.py BOOT FOLDER PROMISES --seed N [--planted NAME] [--every N]

Knows: how the sidecar uses its store (write queue, recorder, recovery), and what it tells the
outside when. Each boot does all of it with some callers of several tenants: intents with small and
large arguments, outcomes, refusals, guarded entries, duplicates, raised epochs, reads, checkpoint
steps. What it was promised goes to PROMISES, one JSON object a write, at the moment a caller would
have been answered. Faults planted here are the kind that shows only when the power goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests/unit/ledger")]

import ledger_setup as setup

import storage
import storage.sqlite
import storage.sqlite_thread
from sidecar.errors import Refused
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from sidecar.ledger.recorder import Intent, Recorder
from sidecar.ledger.recovery import recover
from sidecar.model import Outcome, OutcomeKind
from storage.migrate import MIGRATIONS_FOLDER, read_migrations
from storage.records import Entry, Recorded, Stale
from storage.write_queue import WriteQueue

NODE = "node-1"
TENANTS = ("acme", "beta", "corp")
CALLERS = 8
CALLS_PER_CALLER = 8
#: The boots of one life, in order: how each ends, and whether its program brings migrations.
BOOTS = {
    "first": ("close", False),
    "killed": ("kill", False),
    "recovering": ("close", False),
    "upgraded": ("close", True),
}
PLANTED = ("synchronous-off", "synchronous-normal")
#: A release later: one step that copies a table, one that drops the copy.
LATER_MIGRATIONS = {
    "copy_receipts": "CREATE TABLE receipts_copy AS SELECT * FROM receipts;\n",
    "drop_copy": "DROP TABLE receipts_copy;\n",
}


def program_of(boot: str, scratch: Path) -> None:
    """Makes this process the release of the program that runs in a boot."""
    shipped = MIGRATIONS_FOLDER
    folder = shipped
    if BOOTS[boot][1]:
        folder = scratch / "migrations"
        if not folder.exists():
            _write_later_release(shipped, folder)
    # The default of the one function that reads migrations, whoever has imported it.
    read_migrations.__defaults__ = (folder,)
    is_later = read_migrations("sqlite")[-1].name == list(LATER_MIGRATIONS)[-1]
    assert is_later == BOOTS[boot][1], boot


def _write_later_release(shipped: Path, folder: Path) -> None:
    unfinished = folder.with_name(f"migrations-{os.getpid()}")
    shutil.copytree(shipped, unfinished)
    newest = read_migrations("sqlite", shipped)[-1].version
    for number, (name, text) in enumerate(LATER_MIGRATIONS.items(), newest + 1):
        (unfinished / f"{number:04}_{name}.sql").write_text(text)
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished)  # another process was faster


def plant(fault: str) -> None:
    """Weakens the writer's connection after the store has made sure of its settings."""
    prepare = storage.sqlite.prepare_writer
    level = fault.removeprefix("synchronous-").upper()

    def weaker(raw: sqlite3.Connection) -> None:
        prepare(raw)
        raw.execute(f"PRAGMA synchronous = {level}")

    storage.sqlite.prepare_writer = weaker


def _one_more(state: str) -> str:
    return f"{len(state) + 1:0{len(state) + 1}d}"


class Life:
    """One boot: the open store, its callers, and the file that takes what they were told."""

    def __init__(self, boot: str, folder: Path, promises: Path, seed: int) -> None:
        number = list(BOOTS).index(boot)
        self.boot = boot
        self.ends_by, _ = BOOTS[boot]
        self.chance = Random(f"{seed} {boot}")
        self.clock = setup.SteadyClock(setup.START_US + number * 10**9)
        self.clock.ids = (number + 1) << 64
        self.url = f"sqlite:///{folder}/aegis.db"
        self._promises = os.open(promises, os.O_WRONLY | os.O_APPEND)
        self._told = 0
        self._kill_at = self.chance.randint(20, 40) if self.ends_by == "kill" else 1 << 30

    def tell(self, **said: Any) -> None:
        """An answer reaches the outside; in the boot that is killed, one of them is the last."""
        os.write(self._promises, json.dumps(said).encode())
        self._told += 1
        if self._told == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def recorded(self, tenant: str, answer: Recorded | Intent) -> None:
        self.tell(tenant=tenant, seq=answer.seq, hash=answer.receipt_hash)

    async def run(self) -> None:
        """Opens, recovers, serves, closes; or is killed in between."""
        self.tell(boot=self.boot, at="opening")
        store = await storage.open_store(self.url, now_us=self.clock.now_us, node_id=NODE)
        self.tell(at="recovering")
        await recover(store, seal, self.clock, boot_id=self.boot)
        self.tell(at="serving")
        queue = WriteQueue(
            store, seal, capacity=256, wait_s=20, monotonic_ns=self.clock.monotonic_ns
        )
        recorder = Recorder(queue, self.clock, node_id=NODE, boot_id=self.boot, redact=dict)
        queue.on_abandoned = recorder.abandoned
        callers = [Caller(self, store, queue, recorder, number) for number in range(CALLERS)]
        await asyncio.gather(*(caller.run() for caller in callers))
        left_over = await queue.drain(20.0)
        assert left_over == 0, left_over
        for tenant in TENANTS:
            head = await store.head(tenant)
            self.tell(tenant=tenant, seq=head.seq, hash=head.receipt_hash)
        assert self.ends_by != "kill", f"only {self._told} answers"
        self.tell(at="closing")
        await queue.close()
        await store.close()
        self.tell(at="down")


class Caller:
    """One agent of one tenant, one thing at a time."""

    def __init__(
        self,
        life: Life,
        store: storage.SqlStore,
        queue: WriteQueue,
        recorder: Recorder,
        number: int,
    ) -> None:
        self._life, self._store, self._queue, self._recorder = life, store, queue, recorder
        self._chance = Random(life.chance.random())
        self._tenant = TENANTS[number % len(TENANTS)]
        self._agent = f"agent-{number}"
        self._principal = setup.principal(self._tenant, self._agent)
        self._run_version: int | None = None
        self._last_call_id = life.clock.new_id()

    async def run(self) -> None:
        """All that this caller does in one boot."""
        deeds = (self._call,) * 8 + (
            self._refusal,
            self._guarded,
            self._twice,
            self._raise_epoch,
            self._read,
        )
        for _ in range(CALLS_PER_CALLER):
            await self._chance.choice(deeds)()

    async def _call(self) -> None:
        self._last_call_id = self._life.clock.new_id()
        text = "x" * self._chance.choice((20, 20, 300, 9_000))
        call = setup.call(self._last_call_id, {"title": text})
        epoch = (await self._store.head(self._tenant)).epoch
        caller = replace(self._principal, epoch=epoch)
        intent = await self._recorder.intent(caller, call, setup.decision())
        if not isinstance(intent, Intent):
            return
        self._life.recorded(self._tenant, intent)
        fate = self._chance.random()
        if fate < 0.7:
            self._recorder.outcome(intent, Outcome(OutcomeKind.COMPLETED, 200))
        elif fate < 0.9:
            await self._waited_for_outcome(intent)
        else:
            intent.slot.release()

    async def _waited_for_outcome(self, intent: Intent) -> None:
        intent.slot.release()
        draft = blank_receipt(
            self._tenant,
            "outcome",
            event_id=self._life.clock.new_id(),
            call_id=intent.call_id,
            ts_us=self._life.clock.now_us(),
            outcome="ok",
        )
        answer = await self._queue.submit(Entry(draft, closes=intent.call_id))
        assert isinstance(answer, Recorded), answer
        self._life.recorded(self._tenant, answer)

    async def _refusal(self) -> None:
        call = setup.call(self._life.clock.new_id())
        answer = await self._recorder.refusal(
            self._principal,
            call_id=call.call_id,
            upstream="github",
            action="POST",
            refused=Refused("policy_deny"),
            call=call,
        )
        assert answer is not None
        self._life.recorded(self._tenant, answer)

    async def _guarded(self) -> None:
        """An entry that rests on what the agent did before; the first try may find it changed."""
        draft = blank_receipt(
            self._tenant,
            "control",
            event_id=self._life.clock.new_id(),
            call_id=None,
            ts_us=self._life.clock.now_us(),
            agent_id=self._agent,
        )
        version = self._run_version or 0
        answer = await self._queue.submit(Entry(draft, run_version=version, run_step=_one_more))
        if isinstance(answer, Recorded):
            self._run_version = version + 1
            self._life.recorded(self._tenant, answer)
            self._life.tell(tenant=self._tenant, agent=self._agent, run_version=version + 1)
        elif isinstance(answer, Stale):
            self._run_version = answer.run.version

    async def _twice(self) -> None:
        """The same call id again: the batch takes the careful way, and answers one of two."""
        row = blank_receipt(
            self._tenant,
            "refusal",
            event_id=self._life.clock.new_id(),
            call_id=self._last_call_id,
            ts_us=self._life.clock.now_us(),
        )
        answer = await self._queue.submit(Entry(row))
        if isinstance(answer, Recorded):
            self._life.recorded(self._tenant, answer)

    async def _raise_epoch(self) -> None:
        epoch = await self._store.raise_epoch(self._tenant)
        self._life.tell(tenant=self._tenant, epoch=epoch)

    async def _read(self) -> None:
        await self._store.receipts(self._tenant, 0, 200)
        await self._store.receipts_of_call(self._tenant, self._last_call_id)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("boot", choices=BOOTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("promises", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--planted", choices=PLANTED)
    parser.add_argument(
        "--every", type=int, default=5, help="batches from checkpoint to checkpoint"
    )
    options = parser.parse_args()
    program_of(options.boot, options.promises.parent)
    # Many checkpoints, WALs that start over and shrink, in a life of some hundred receipts.
    assert storage.sqlite.BATCHES_PER_CHECKPOINT and storage.sqlite_thread.WAL_BYTES_KEPT
    storage.sqlite.BATCHES_PER_CHECKPOINT = options.every
    storage.sqlite_thread.WAL_BYTES_KEPT = 128 * 1024
    if options.planted:
        plant(options.planted)
    life = Life(options.boot, options.folder, options.promises, options.seed)
    try:
        asyncio.run(life.run())
    except BaseException:
        # The store's threads would keep the process, and whoever records it, waiting.
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
