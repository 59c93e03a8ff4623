"""`aegis-sidecar store accept-rollback`: what was recorded once is lost; the chain says so itself.

A sidecar that finds its store rolled back does not start. This is the way on when the newer store
is gone for good: a receipt tells what was lost; only then is the file of heads rewritten, and are
heads that were exported kept as given up.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import (
    WrongUsage,
    add_store_arguments,
    finished,
    print_reports,
    store_url,
    trusted_keys_of,
)
from sidecar.cli.data_folder import add_data_folder, witness_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.config.model import Receipts
    from sidecar.ledger.anchors import TrustedKey
    from sidecar.ledger.exported import LostCheckpoint
    from storage.known_heads import LostHead, Seen
    from storage.sql_store import SqlStore

NAME = "accept-rollback"
HELP = "a store was rolled back for good: record it, so that it starts"

REASON_CHARACTERS_MAX = 1000
#: It holds in memory what it went by, and would go on from what is gone.
RESTART = "A sidecar that runs and refuses with store_rolled_back goes on once it is restarted."
GONE = (
    "What people changed in what is lost is gone too: agents frozen, keys and tokens made or "
    "revoked, containments, approvals, tools accepted. Look at each, and do again what is to hold."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, whose chain, and why."""
    add_store_arguments(parser)
    add_data_folder(parser)
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--tenant", help="whose chain (default: the only one that lost something)")
    whose.add_argument("--all", action="store_true", help="every chain that lost something")
    parser.add_argument(
        "--reason", required=True, metavar="TEXT", help="kept beside the receipt; can be erased"
    )


def run(args: argparse.Namespace) -> int:
    """0 recorded (or nothing was lost), 1 it cannot be, 2 wrong usage."""
    return finished(_accept(args), writes=True)


async def _accept(args: argparse.Namespace) -> int:
    import storage
    from sidecar.clock import Clock

    reason = args.reason.strip()
    if not reason or len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        raise WrongUsage(f"a reason is one line of at most {REASON_CHARACTERS_MAX} characters")
    clock, url = Clock(), store_url(args)
    witness = witness_of(args, url, clock.now_us)
    if witness is None:
        raise WrongUsage("name the sidecar's folder with --data-dir, or its --config")
    testimony = witness.read()
    seen = {} if testimony is None else testimony.heads
    receipts = _receipts(args)
    if testimony is None and not receipts.checkpoint.to:
        print(f"there is no {witness.path}: nothing tells what was recorded", file=sys.stderr)
        return 1
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        exported = await _lost_checkpoints(store, receipts)
        lost = _chosen(_together(await _lost(store, seen), exported), args)
        if not lost:
            print(f"nothing is lost: every receipt that was seen is in its place. {RESTART}")
            return 0
        if not await _hold(store, lost, trusted_keys_of(args)):
            return 1
        await _record(store, lost, reason)
        recorded = store.known.all()
        said = {one.tenant_id: recorded[one.tenant_id] for one in lost}
        await _accept_checkpoints(store, exported, set(said), clock.now_us())
        witness.write({**seen, **said})
    finally:
        await store.close()
    for one in lost:
        print(f"{one}. Receipt {said[one.tenant_id].seq} says so; the sidecar starts again.")
    print(RESTART)
    print(GONE)
    return 0


async def _lost(store: SqlStore, heads: Mapping[str, Seen]) -> Sequence[LostHead]:
    """As the very connection sees it that writes."""
    from storage.known_heads import StoreRolledBack

    try:
        await store.compare(heads)
    except StoreRolledBack as error:
        return error.lost
    return ()


def _receipts(args: argparse.Namespace) -> Receipts:
    """How heads are exported, by the configuration; a store that is named alone has none."""
    from sidecar.cli.receipts_rotate_key import settings_of
    from sidecar.config.model import Receipts

    return Receipts() if args.store else settings_of(args.config).receipts


async def _lost_checkpoints(store: SqlStore, receipts: Receipts) -> list[LostCheckpoint]:
    """Exported heads that are not of the store's history."""
    from sidecar.ledger.exported import lost_checkpoints
    from sidecar.signed_note import SigningKey

    if receipts.key is None:
        return []
    key = SigningKey(receipts.key.reveal())
    return await lost_checkpoints(store, receipts.checkpoint.to, key, is_only_store=True)


def _together(seen: Sequence[LostHead], exported: Sequence[LostCheckpoint]) -> Sequence[LostHead]:
    """Of each tenant the head that is furthest ahead, wherever it was seen."""
    found: dict[str, LostHead] = {}
    for one in (*seen, *(lost.head for lost in exported)):
        before = found.setdefault(one.tenant_id, one)
        if before.seen.seq < one.seen.seq:
            found[one.tenant_id] = one
    return [found[tenant_id] for tenant_id in sorted(found)]


async def _accept_checkpoints(
    store: SqlStore, exported: Sequence[LostCheckpoint], tenants: set[str], at_us: int
) -> None:
    """From now on these heads stop no start; they stay as evidence of what was given up."""
    from sidecar.ledger.exported import accepted
    from storage.tree import TreeWriter

    for lost in exported:
        if lost.tenant_id in tenants:
            await TreeWriter(store).set_checkpoint(accepted(lost, at_us))


def _chosen(lost: Sequence[LostHead], args: argparse.Namespace) -> Sequence[LostHead]:
    names = [one.tenant_id for one in lost]
    if args.all or (args.tenant is None and len(lost) < 2):
        return lost
    if args.tenant not in names:
        if args.tenant is not None and not lost:
            return lost
        wanted = "name one with --tenant, or --all" if args.tenant is None else f"{args.tenant!a}"
        raise WrongUsage(f"{wanted}; chains that lost something: {', '.join(names)}")
    return [one for one in lost if one.tenant_id == args.tenant]


async def _hold(store: SqlStore, lost: Sequence[LostHead], trusted: Sequence[TrustedKey]) -> bool:
    """Whether what is left of the chains holds; a receipt is not put onto one that does not."""
    from sidecar.ledger.stored_chain import verify_chain

    if print_reports([await verify_chain(store, one.tenant_id, trusted) for one in lost]):
        return True
    print(
        "nothing was recorded: `store restore` a backup, or what `store salvage` makes of this one",
        file=sys.stderr,
    )
    return False


async def _record(store: SqlStore, lost: Sequence[LostHead], reason: str) -> None:
    from sidecar.clock import Clock
    from sidecar.ledger.alone import record
    from sidecar.ledger.rollback import rolled_back
    from sidecar.local_users import command_actor

    for one in lost:
        await record(store, rolled_back(Clock(), command_actor(), one, reason))
