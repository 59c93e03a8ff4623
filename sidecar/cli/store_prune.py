"""`aegis-sidecar store prune TABLE --older-than AGE`: lets go of what is old enough.

Facts go; receipts go only into an archive that was verified; nothing else goes at all.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import (
    WrongUsage,
    add_store_arguments,
    file_path,
    finished,
    print_reports,
    ready_partial,
    size_text,
    store_url,
    tenant_of,
    time_text,
    trusted_keys_of,
)
from sidecar.cli.command_parser import some_text
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.clock import Clock
    from storage.retention import CareReader, Cut
    from storage.sql_store import SqlReader, SqlStore

NAME = "prune"
HELP = "delete facts, or archive receipts, that are older than an age"

_NEVER = {
    "agent": "it says which agents may call, and how that came to be",
    "api_key": "it says whose keys count, and which do not any more",
    "approval": "approvals are never pruned: they say who allowed what",
    "said_once": "request ids and nonces are forgotten by themselves, a day after they were said",
    "audit_event": "changes of state are never pruned: they say who changed what",
    "watch_mark": "it says how far the record was watched; without it alerts would be raised twice",
    "watch_memory": "it holds what detections still need; the sidecar forgets the rest by itself",
    "alert": "alerts are never pruned: they say what was noticed, and by which receipts",
    "incident": "incidents are never pruned: they say what people did about alerts",
    "containment": "containments are never pruned: they say what was refused, why and until when",
    "delivery": "what was told is forgotten by itself after a week; what was not waits for you",
    "checkpoint": "signed heads are few, and say what the chains were; older ones go by themselves",
    "chain_head": "heads are never pruned: chains go on from them",
    "limit_bucket": "it holds what limits still count; the sidecar forgets the rest by itself",
    "open_intent": "calls in flight are never pruned; the next start closes what was left open",
    "run_head": "it holds one row for each agent, and guards what they do next",
    "schema_migration": "it says what the schema is",
    "tree_tile": "proofs are made of it, also of receipts that are in archives",
    "tool_pin": "it holds one row for each tool of an MCP server, and guards its definition",
    "store_state": "it holds the cuts of pruned chains",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, which table, and how old."""
    add_store_arguments(parser)
    parser.add_argument("table", metavar="TABLE", help="call_facts or receipts")
    parser.add_argument(
        "--older-than", type=_age_s, required=True, metavar="AGE", help="for example 90d"
    )
    parser.add_argument(
        "--tenant", type=some_text, help="whose (default: everyone's facts; the only tenant's)"
    )
    parser.add_argument(
        "--archive", metavar="FILE", help="for receipts: the new file they are kept in"
    )
    parser.add_argument(
        "--facts", action="store_true", help="for receipts: keep their facts in the archive too"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def run(args: argparse.Namespace) -> int:
    """0 done (or nothing was old enough), 1 refused or failed, 2 wrong usage."""
    return finished(_prune(args), writes=True)


def _age_s(text: str) -> float:
    from sidecar.config.units import duration_s

    try:
        return duration_s(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


async def _prune(args: argparse.Namespace) -> int:
    import storage
    from sidecar.clock import Clock

    if args.table in _NEVER:
        raise WrongUsage(f"{args.table} stays: {_NEVER[args.table]}")
    if args.table not in ("call_facts", "receipts"):
        raise WrongUsage(
            f"there is nothing to prune in {args.table!r}: name call_facts or receipts"
        )
    if args.table == "receipts" and not args.archive:
        raise WrongUsage("receipts are never deleted without an archive: name one with --archive")
    if args.table == "call_facts" and (args.archive or args.facts):
        raise WrongUsage("--archive and --facts are for receipts")
    clock = Clock()
    before_us = max(0, clock.now_us() - int(args.older_than * 1e6))
    url = store_url(args)
    reader = await storage.open_reader(url)  # a store that is not there is not made
    try:
        if args.dry_run:
            return await _would_go(reader, args, before_us)
    finally:
        await reader.close()
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        if args.table == "call_facts":
            return await _prune_facts(store, args, clock, before_us)
        return await _prune_receipts(store, args, clock, before_us)
    finally:
        await store.close()


async def _would_go(reader: SqlReader, args: argparse.Namespace, before_us: int) -> int:
    """Says what is old enough; the store is only read, and may be worked on meanwhile."""
    from storage.retention import CareReader

    care = CareReader(reader)
    if args.table == "call_facts":
        async for tenant_id, _, count, what in _old_facts(reader, care, args, before_us):
            print(f"tenant {tenant_id!a}: {what} would go" if count else _nothing(tenant_id))
        return 0
    tenant_id = await tenant_of(reader, args.tenant)
    start = await care.cut(tenant_id)
    until_seq = await _end_of_what_may_go(reader, care, tenant_id, before_us)
    if until_seq <= start.seq:
        print(_nothing(tenant_id))
    else:
        print(f"{_receipts(tenant_id, start, until_seq)} would go")
    return 0


# -- facts ---------------------------------------------------------------------------------


async def _old_facts(
    reader: SqlReader, care: CareReader, args: argparse.Namespace, before_us: int
) -> AsyncIterator[tuple[str, int, int, str]]:
    """Whose facts are old enough: tenant, up to which receipt, of how many calls, in words."""
    tenants = [await tenant_of(reader, args.tenant)] if args.tenant else await reader.tenants()
    for tenant_id in tenants:
        head = await reader.head(tenant_id)
        until_seq = await care.last_before(tenant_id, before_us, head)
        count = await care.count("call_facts", tenant_id, 0, until_seq)
        yield (
            tenant_id,
            until_seq,
            count,
            f"facts of {counted(count, 'call')} before {time_text(before_us)}",
        )


async def _prune_facts(
    store: SqlStore, args: argparse.Namespace, clock: Clock, before_us: int
) -> int:
    from sidecar.ledger.alone import record
    from sidecar.ledger.care import pruned_facts
    from sidecar.local_users import command_actor
    from storage.retention import Retention

    retention = Retention(store)
    await retention.overwrite_deleted()
    async for tenant_id, until_seq, count, what in _old_facts(store, retention, args, before_us):
        if not count:
            print(_nothing(tenant_id))
            continue
        await record(store, pruned_facts(clock, tenant_id, command_actor(), until_seq, count))
        gone = await retention.delete_facts(tenant_id, until_seq)
        print(f"tenant {tenant_id!a}: {what}: {gone} deleted; every receipt stays")
    return 0


def _nothing(tenant_id: str) -> str:
    return f"tenant {tenant_id!a}: nothing is that old"


# -- receipts ------------------------------------------------------------------------------


async def _prune_receipts(
    store: SqlStore, args: argparse.Namespace, clock: Clock, before_us: int
) -> int:
    from sidecar.ledger.alone import record
    from sidecar.ledger.care import pruned_receipts
    from sidecar.ledger.stored_chain import verify_chain
    from sidecar.local_users import command_actor
    from storage.retention import Retention

    retention, trusted = Retention(store), trusted_keys_of(args)
    await retention.overwrite_deleted()
    tenant_id = await tenant_of(store, args.tenant)
    start = await retention.cut(tenant_id)
    until_seq = await _end_of_what_may_go(store, retention, tenant_id, before_us)
    receipts, _ = await retention.finish_cut(tenant_id)
    if receipts:
        print(f"{counted(receipts, 'receipt')} left by a prune that was interrupted: deleted")
    if until_seq <= start.seq:
        print(_nothing(tenant_id))
        return 0
    what = _receipts(tenant_id, start, until_seq)
    if not print_reports([await verify_chain(store, tenant_id, trusted)]):
        print("nothing was deleted: a chain that does not hold is not cut", file=sys.stderr)
        return 1
    await _keep_tree(store, tenant_id)
    cut = await _archived(store, args, tenant_id, start, until_seq)
    await record(store, pruned_receipts(clock, tenant_id, command_actor(), cut))
    receipts, facts = await retention.cut_off(tenant_id, cut)
    print(
        f"{what} are in {cut.archive}; {counted(receipts, 'receipt')} and "
        f"{counted(facts, 'fact')} deleted; now:"
    )
    return 0 if print_reports([await verify_chain(store, tenant_id, trusted)]) else 1


def _receipts(tenant_id: str, start: Cut, until_seq: int) -> str:
    return f"receipts {start.seq + 1} to {until_seq} of tenant {tenant_id!a}"


async def _keep_tree(store: SqlStore, tenant_id: str) -> None:
    """The hashes of the chain's tree stay when its receipts go: proofs are made of them, and heads
    that were signed are held against them."""
    from sidecar.ledger.tiles import TreeGrowth, TreeIncomplete

    growth, head = TreeGrowth(store, tenant_id), await store.head(tenant_id)
    try:
        await growth.grow(head)
        await growth.keep_partial(head)
    except TreeIncomplete as error:
        print(f"no proofs can be made of tenant {tenant_id!a}: {error}", file=sys.stderr)


async def _end_of_what_may_go(
    reader: SqlReader, care: CareReader, tenant_id: str, before_us: int
) -> int:
    """The last receipt that is old enough, is not the head, and lies before any open call."""
    head = await reader.head(tenant_id)
    until_seq = await care.last_before(tenant_id, before_us, head)
    opened = await care.first_open_call(tenant_id)
    ends = [until_seq, head.seq - 1] + ([] if opened is None else [opened - 1])
    return min(ends)


async def _archived(
    store: SqlStore, args: argparse.Namespace, tenant_id: str, start: Cut, until_seq: int
) -> Cut:
    """Writes and verifies the archive, and gives it its name; raises CutRefused if it fails."""
    from sidecar.ledger.archive import write_archive
    from sidecar.ledger.stored_chain import ChainFault
    from storage.backup import check_free, discard, publish
    from storage.retention import CareReader, CutRefused, overtaken

    target = file_path(args.archive)
    check_free(target)
    partial = ready_partial(target)
    try:
        cut = await write_archive(
            store, tenant_id, start, until_seq, partial, target, with_facts=args.facts
        )
        size_bytes = partial.stat().st_size
        publish(partial, target)
    except ChainFault as error:
        now = await CareReader(store).cut(tenant_id)
        if now.seq > start.seq:
            raise overtaken(tenant_id, now) from error
        raise CutRefused(f"the archive does not hold: {error}") from error
    finally:
        discard(partial)
    print(f"{target}: {size_text(size_bytes)}, verified, sha256 {cut.archive_sha256}")
    if start.seq:
        print(f"    it goes on from {start.archive}: `receipts verify --first-seq {start.seq + 1}`")
    return cut
