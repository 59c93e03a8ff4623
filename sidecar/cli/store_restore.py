"""`aegis-sidecar store restore BACKUP`: puts a verified backup where the store is, or was."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import add_store_arguments, file_path, finished, store_file, store_url

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.clock import Clock

NAME = "restore"
HELP = "put a backup in the store's place; the sidecar must be stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and what from."""
    add_store_arguments(parser)
    parser.add_argument("backup", metavar="BACKUP", help="a file made by `store backup`")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="there is a store: keep it beside the restored one, under a dated name",
    )


def run(args: argparse.Namespace) -> int:
    """0 the store is restored and verified, 1 it is as it was before, 2 wrong usage."""
    return finished(_restore(args), writes=True)


async def _restore(args: argparse.Namespace) -> int:
    import storage
    from sidecar.cli.store_backup import verify_copy
    from sidecar.clock import Clock
    from storage.backup import copy_store, discard, partial_of
    from storage.sqlite_file import FileLock, check_place

    clock = Clock()
    path = store_file(store_url(args), NAME)
    backup = file_path(args.backup)
    check_place(path)
    await (await storage.open_reader(f"sqlite:///{backup}")).close()
    lock = FileLock(path)
    partial = partial_of(path)
    try:
        kept = _name_to_keep(path, args.replace, clock.now_us())
        copy_store(backup, partial)
        if not await verify_copy(partial):
            print(f"{backup} does not hold; the store is as it was", file=sys.stderr)
            return 1
        if kept is not None:
            await _say_what_is_lost(path, partial)
        await _note_in_chains(partial, clock)
        _put_in_place(partial, path, kept)
        print(f"{path} is restored from {backup}; as it stands now:")
        return 0 if await verify_copy(path) else 1
    finally:
        discard(partial)
        lock.release()


def _name_to_keep(path: Path, may_replace: bool, now_us: int) -> Path | None:
    """Where the store that is there goes; None if there is none. Raises TargetExists."""
    from datetime import UTC, datetime

    from storage.backup import TargetExists, check_free

    if not path.exists() and not path.with_name(f"{path.name}-wal").exists():
        return None
    if not may_replace:
        raise TargetExists(f"there is a store at {path}; --replace keeps it under a dated name")
    moment = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = path.with_name(f"{path.name}.replaced-{moment}")
    check_free(kept)
    return kept


async def _say_what_is_lost(path: Path, partial: Path) -> None:
    """Compares the store that is there with what replaces it: a restore is a step back in time."""
    import storage
    from storage.errors import StoreError

    try:
        old = await storage.open_reader(f"sqlite:///{path}")
    except StoreError as error:
        print(f"the store that is there cannot be read: {error} [{error.code}]", file=sys.stderr)
        return
    new = await storage.open_reader(f"sqlite:///{partial}")
    try:
        for tenant_id in await old.tenants():
            was, will_be = await old.head(tenant_id), await new.head(tenant_id)
            if was.seq > will_be.seq:
                print(
                    f"tenant {tenant_id!a}: receipts {will_be.seq + 1} to {was.seq} were recorded "
                    "after the backup, and stay in the replaced file only",
                    file=sys.stderr,
                )
    except StoreError as error:
        print(f"the store that is there cannot be read: {error} [{error.code}]", file=sys.stderr)
    finally:
        await old.close()
        await new.close()


async def _note_in_chains(partial: Path, clock: Clock) -> None:
    """Each chain goes on with a receipt that says that it was restored, and from where."""
    import storage
    from sidecar.ledger.care import restored
    from sidecar.ledger.chain import seal
    from storage.errors import StoreCorrupt
    from storage.records import Recorded

    store = await storage.open_store(f"sqlite:///{partial}", now_us=clock.now_us)
    try:
        heads = [await store.head(tenant_id) for tenant_id in await store.tenants()]
        answers = await store.record(
            [restored(clock, head.tenant_id, head.seq, head.receipt_hash) for head in heads], seal
        )
        if not all(isinstance(answer, Recorded) for answer in answers):
            raise StoreCorrupt(f"the restore cannot be recorded: {answers}")
    finally:
        await store.close()


def _put_in_place(partial: Path, path: Path, kept: Path | None) -> None:
    from storage.backup import publish, replace, set_aside, sync_file

    sync_file(partial)
    if kept is None:
        publish(partial, path)
        return
    set_aside(path, kept)
    replace(partial, path)
    print(f"the store that was there is kept as {kept}")
