"""`aegis-sidecar store backup TARGET`: a verified copy of the store, also while it is in use."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import (
    add_store_arguments,
    file_path,
    finished,
    print_reports,
    ready_partial,
    size_text,
    store_file,
    store_url,
    trusted_keys_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sidecar.ledger.anchors import TrustedKey

NAME = "backup"
HELP = "copy the store, also while it is in use, and verify the copy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and where to."""
    add_store_arguments(parser)
    parser.add_argument("target", metavar="TARGET", help="the new file; nothing is overwritten")


def run(args: argparse.Namespace) -> int:
    """0 there is a verified copy, 1 there is none, 2 wrong usage."""
    return finished(_backup(args))


async def _backup(args: argparse.Namespace) -> int:
    import storage
    from sidecar.backup_file import Backup, keep
    from sidecar.clock import Clock
    from storage.backup import check_free, copy_store, discard, publish

    source, trusted = store_file(store_url(args), NAME), trusted_keys_of(args)
    target = file_path(args.target)
    check_free(target)
    partial = ready_partial(target)
    # Raises for what is no store, before anything is copied.
    await (await storage.open_reader(f"sqlite:///{source}")).close()
    begun_us = Clock().now_us()  # what is recorded from here on may be missing in the copy
    try:
        copy_store(source, partial, _show_progress if sys.stderr.isatty() else None)
        # The copy gets its name only after it has been verified.
        if not await verify_copy(partial, trusted):
            print("the copy does not hold; it was not kept. See `store info`.", file=sys.stderr)
            return 1
        publish(partial, target)
    finally:
        discard(partial)
    file_bytes = target.stat().st_size
    print(f"{source} is backed up in {target}, {size_text(file_bytes)}")
    try:
        keep(source, Backup(at_us=begun_us, file_bytes=file_bytes, target=str(target)))
    except OSError as error:
        print(f"warning: the sidecar cannot tell of it: {error.strerror}", file=sys.stderr)
    return 0


async def verify_copy(path: Path, trusted: Sequence[TrustedKey] = ()) -> bool:
    """Has a copy's pages, schema and chains verified, and says how far each holds, and how far the
    heads in it that somebody trusted has signed vouch for that.

    Raises a StoreError if it is no store, is damaged, or does not have the schema it claims.
    """
    import storage
    from sidecar.ledger.stored_chain import verify_store
    from storage.backup import check_pages
    from storage.schema_check import check_reader

    check_pages(path)
    reader = await storage.open_reader(f"sqlite:///{path}")
    try:
        await check_reader(reader)
        return print_reports(await verify_store(reader, trusted))
    finally:
        await reader.close()


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done / max(total, 1):4.0%} copied", end=end, file=sys.stderr, flush=True)
