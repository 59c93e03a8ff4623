"""`aegis-sidecar store restore BACKUP`: puts a verified backup where the store is, or was."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import (
    add_store_arguments,
    file_path,
    finished,
    ready_partial,
    store_file,
    store_url,
    trusted_keys_of,
)
from sidecar.cli.data_folder import add_data_folder

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.clock import Clock
    from sidecar.ledger.witness import Witness
    from storage.known_heads import LostHead, Seen

NAME = "restore"
HELP = "put a backup in the store's place; the sidecar must be stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and what from."""
    add_store_arguments(parser)
    add_data_folder(parser)
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
    from storage.backup import copy_store, discard
    from storage.sqlite_file import FileLock, check_place

    clock, url = Clock(), store_url(args)
    path, trusted = store_file(url, NAME), trusted_keys_of(args)
    backup = file_path(args.backup)
    check_place(path)
    with _named_as_backup(backup):
        await (await storage.open_reader(f"sqlite:///{backup}")).close()
    lock = FileLock(path)
    partial = ready_partial(path)
    try:
        kept = _name_to_keep(path, args.replace, clock.now_us())
        witness, seen = _seen_before(args, url, clock)
        with _named_as_backup(backup):
            copy_store(backup, partial, of_folder=True)
            is_sound = await verify_copy(partial, trusted)
        if not is_sound:
            print(f"{backup} does not hold; the store is as it was", file=sys.stderr)
            return 1
        if kept is not None:
            _take_later(seen, await _heads_of(path))
        heads = await _note_in_chains(partial, clock, seen, backup)
        _put_in_place(partial, path, kept)
        if witness is not None:
            witness.write(heads)
        print(f"{path} is restored from {backup}; as it stands now:")
        return 0 if await verify_copy(path, trusted) else 1
    finally:
        discard(partial)
        lock.release()


@contextmanager
def _named_as_backup(backup: Path) -> Iterator[None]:
    """What is wrong with the file that was named is not said as of the store: that is as it was."""
    from storage.errors import StoreCorrupt, StoreMissing

    try:
        yield
    except (StoreCorrupt, StoreMissing) as error:
        said = str(error) if isinstance(error, StoreMissing) else f"{backup} is no backup: {error}"
        told = type(error)(said)
        told.next_step = (
            "Name a file that `store backup` made; the store is as it was. What is sound of a "
            "damaged one, `store salvage --store sqlite:///FILE OUTPUT` copies."
        )
        raise told from error


def _seen_before(
    args: argparse.Namespace, url: str, clock: Clock
) -> tuple[Witness | None, dict[str, Seen]]:
    """What the sidecar saw of this very store, and where it says so; None if it says nothing.

    Raises WitnessUnreadable: a store that was rolled back would be found out no more.
    """
    from sidecar.cli.data_folder import witness_of
    from storage.sqlite_file import path_of_url

    witness = witness_of(args, url, clock.now_us)
    testimony = witness.read() if witness is not None else None
    if witness is None or testimony is None:
        return None, {}
    of = testimony.store
    if not of.startswith("sqlite:") or path_of_url(of) != path_of_url(url):
        print(f"{witness.path} is of another store ({of}): it stays as it is", file=sys.stderr)
        return None, {}
    return witness, dict(testimony.heads)


def _take_later(seen: dict[str, Seen], heads: dict[str, Seen]) -> None:
    for tenant_id, head in heads.items():
        if head.seq >= seen.get(tenant_id, head).seq:
            seen[tenant_id] = head


def _name_to_keep(path: Path, may_replace: bool, now_us: int) -> Path | None:
    """Where the store that is there goes; None if there is none. Raises StoreThere."""
    from datetime import UTC, datetime

    from storage.backup import StoreThere, check_free

    if not path.exists() and not path.with_name(f"{path.name}-wal").exists():
        return None
    if not may_replace:
        raise StoreThere(f"there is a store at {path}")
    moment = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = path.with_name(f"{path.name}.replaced-{moment}")
    check_free(kept)
    return kept


async def _heads_of(path: Path) -> dict[str, Seen]:
    """The heads of the store that is there, as far as it can be read."""
    import storage
    from storage.errors import StoreError
    from storage.known_heads import Seen

    found: dict[str, Seen] = {}
    try:
        old = await storage.open_reader(f"sqlite:///{path}")
        try:
            for tenant_id in await old.tenants():
                head = await old.head(tenant_id)
                if head.seq:
                    found[tenant_id] = Seen(head.seq, head.receipt_hash)
        finally:
            await old.close()
    except StoreError as error:
        print(f"the store that is there cannot be read: {error} [{error.code}]", file=sys.stderr)
    return found


async def _note_in_chains(
    partial: Path, clock: Clock, seen: dict[str, Seen], backup: Path
) -> dict[str, Seen]:
    """Each chain goes on with a receipt that says that it was restored, or what was lost by it.

    A restore is a step back in time. Gives the heads after it.
    """
    import storage
    from sidecar.ledger.care import restored
    from sidecar.ledger.chain import seal
    from sidecar.ledger.rollback import rolled_back
    from sidecar.local_users import command_actor
    from storage.errors import StoreCorrupt
    from storage.known_heads import StoreRolledBack
    from storage.records import Recorded

    actor = command_actor()
    store = await storage.open_store(f"sqlite:///{partial}", now_us=clock.now_us)
    try:
        entries = {}
        for tenant_id in await store.tenants():
            head = await store.head(tenant_id)
            entries[tenant_id] = restored(clock, tenant_id, actor, head.seq, head.receipt_hash)
        try:
            await store.compare(seen)
        except StoreRolledBack as error:
            for lost in error.lost:
                print(_words_of_loss(lost), file=sys.stderr)
                reason = f"restored from {str(backup)!a}"
                entries[lost.tenant_id] = rolled_back(clock, actor, lost, reason)
        answers = await store.record(list(entries.values()), seal)
        if not all(isinstance(answer, Recorded) for answer in answers):
            raise StoreCorrupt(f"the restore cannot be recorded: {answers}")
        return store.known.all()
    finally:
        await store.close()


def _words_of_loss(lost: LostHead) -> str:
    if lost.there.seq >= lost.seen.seq:
        return f"{lost}; a receipt says so"
    return (
        f"tenant {lost.tenant_id!a}: receipts {lost.there.seq + 1} to {lost.seen.seq} were "
        "recorded after the backup, and are not in it; a receipt says so"
    )


def _put_in_place(partial: Path, path: Path, kept: Path | None) -> None:
    from storage.backup import publish, replace, set_aside, sync_file

    sync_file(partial)
    if kept is None:
        publish(partial, path)
        return
    set_aside(path, kept)
    replace(partial, path)
    print(f"the store that was there is kept as {kept}, with all that was recorded in it")
