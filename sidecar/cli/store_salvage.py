"""`aegis-sidecar store salvage OUTPUT`: what is sound of a damaged SQLite store, in a new file."""

from __future__ import annotations

import argparse
import shlex
import sys
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
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sidecar.ledger.salvage import Salvaged
    from storage.salvage import Standing

NAME = "salvage"
HELP = "copy what is sound of a damaged store into a new file"

#: What it means that a table of what stands today is lost, by its name.
_STANDING = {
    "run_head": "what agents' runs had gathered; put in place, every agent starts a new run",
    "limit_bucket": "what limits had counted; put in place, budgets and shared rates start anew",
    "tool_pin": "what MCP tools were pinned to; put in place, the next lists are trusted unseen",
    "agent": "which agents were frozen or revoked; put in place, the configuration alone says",
    "api_key": "keys of people and services; put in place, they have to be made anew",
    "approval": "what was asked and allowed; put in place, what was open has to be asked anew",
    "checkpoint": "the newest signed heads; where they were exported to has them",
    "said_once": "request ids and nonces of the last day; put in place, they may be said again",
    "watch_mark": "how far the record was watched; put in place, watching begins at its end",
    "watch_memory": "what detections remembered; put in place, first uses are noticed again",
    "alert": "alerts; the receipts they rest on are not lost with them",
    "incident": "incidents and what people noted of them; the audit of it is another table",
    "containment": "what was contained; put in place, what is missing is not refused any more",
    "delivery": "what was to be told; put in place, what is missing is told to nobody",
    "audit_event": "the list of who changed what; the receipts still commit to it",
}

#: The same of rows that are of receipts which are lost: of one of them, and of several.
_BEYOND = {
    "audit_event": (
        "audit event of a receipt that is lost",
        "audit events of receipts that are lost",
    ),
    "checkpoint": (
        "signed head of receipts that are lost; where it was exported to has it",
        "signed heads of receipts that are lost; where they were exported to has them",
    ),
    "watch_memory": (
        "thing that detections remembered; put in place, first uses are noticed again",
        "things that detections remembered; put in place, first uses are noticed again",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and where to."""
    add_store_arguments(parser)
    parser.add_argument(
        "output", metavar="OUTPUT", help="the new file; the damaged one is only read"
    )


def run(args: argparse.Namespace) -> int:
    """0 there is a new store that verifies, 1 there is none, 2 wrong usage."""
    return finished(_salvage(args), writes=True)


async def _salvage(args: argparse.Namespace) -> int:
    from pathlib import Path

    from sidecar.cli.store_backup import verify_copy
    from storage.backup import check_free, copy_store, discard, made_beside, publish
    from storage.errors import StoreCorrupt, StoreMissing
    from storage.salvage import copy_as_it_is

    source, trusted = store_file(store_url(args), NAME), trusted_keys_of(args)
    target = file_path(args.output)
    check_free(target)
    if not source.is_file():
        raise StoreMissing(f"there is no store at {source}")
    partial = ready_partial(target)
    with made_beside(target) as name:
        # SQLite may write to what it opens, if only to read its log: it never opens the original.
        fresh = Path(name) / "fresh.db"
        try:
            told, standing = await _filled(copy_as_it_is(source, Path(name)), fresh)
        except StoreCorrupt as error:  # whose next step is a salvage
            print(f"{source}: {error}", file=sys.stderr)
            print(
                "    What says how it is laid out cannot be read, so that nothing can be salvaged: "
                "`store restore` a backup.",
                file=sys.stderr,
            )
            return 1
        if not any(one.last_seq for one in told):
            print(f"nothing of {source} can be believed; no file was made", file=sys.stderr)
            return 1
        try:
            copy_store(fresh, partial)  # one file, without a log
            if not await verify_copy(partial, trusted):
                return 1
            publish(partial, target)
        finally:
            discard(partial)
    _say(told, standing, source, target)
    return 0


async def _filled(damaged: Path, fresh: Path) -> tuple[Sequence[Salvaged], Standing]:
    """What came of the chains, and of what stands today."""
    import storage
    from sidecar.clock import Clock
    from sidecar.ledger.salvage import salvage
    from storage.salvage import Salvage

    reader = await storage.open_reader(f"sqlite:///{damaged}")
    try:
        store = await storage.open_store(f"sqlite:///{fresh}", now_us=Clock().now_us)
        try:
            told = await salvage(reader, store)
            ends = {one.tenant_id: one.last_seq for one in told if one.last_seq >= one.first_seq}
            shortened = {one.tenant_id for one in told if one.head_seq != one.last_seq}
            return told, await Salvage(store).carry_standing(reader, ends, shortened)
        finally:
            await store.close()
    finally:
        await reader.close()


def _say(told: Sequence[Salvaged], standing: Standing, source: Path, target: Path) -> None:
    for one in told:
        kept = f"receipts {one.first_seq} to {one.last_seq}" if one.last_seq else "nothing"
        print(f"tenant {one.tenant_id!a}: {kept} salvaged, {one.facts} with facts")
        if one.is_whole:
            continue
        head = "is not known" if one.head_seq is None else f"was said to be {one.head_seq}"
        facts = f"; {counted(one.facts_lost, 'fact')}" if one.facts_lost else ""
        print(
            f"    LOST: all after receipt {one.last_seq} (the last one {head})"
            f"{facts}: {one.why or 'facts only'}"
        )
    for table in standing.lost:
        print(f"LOST: {_STANDING[table]}")
    for table, count in standing.beyond.items():
        print(f"LOST: {counted(count, *_BEYOND[table])}")
    print(f"{source} was only read. {target} is a store of its own; put it in place with")
    print(f"    aegis-sidecar store restore --replace {shlex.quote(str(target))}")
