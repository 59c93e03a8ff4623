"""`aegis-sidecar store erase`: erases what is kept of one agent's, user's or call's arguments."""

from __future__ import annotations

import argparse

from sidecar.cli.chosen_store import (
    add_store_arguments,
    finished,
    print_reports,
    store_url,
    tenant_of,
)

NAME = "erase"
HELP = "erase the facts of one agent, user or call; receipts stay"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and whose facts."""
    add_store_arguments(parser)
    parser.add_argument("--tenant", help="of which tenant (default: the only one there is)")
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--agent", metavar="ID", help="every call of this agent")
    whose.add_argument("--user", metavar="ID", help="every call for this user")
    whose.add_argument("--call", metavar="ID", help="one call, by its Aegis-Call-Id")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def run(args: argparse.Namespace) -> int:
    """0 erased (or there was nothing), 1 failed, 2 wrong usage."""
    return finished(_erase(args), writes=True)


async def _erase(args: argparse.Namespace) -> int:
    import storage
    from sidecar.cli.store_prune import record
    from sidecar.clock import Clock
    from sidecar.ledger.care import erased_facts
    from sidecar.ledger.stored_chain import verify_chain
    from storage.retention import SUBJECT_KINDS, Retention, Subject

    clock, url = Clock(), store_url(args)
    [(kind, name)] = [
        (kind, getattr(args, kind)) for kind in SUBJECT_KINDS if getattr(args, kind) is not None
    ]
    await (await storage.open_reader(url)).close()  # a store that is not there is not made
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        tenant_id = await tenant_of(store, args.tenant)
        retention = Retention(store)
        until_seq = (await store.head(tenant_id)).seq
        seqs = await retention.facts_about(tenant_id, Subject(kind, name), until_seq)
        whose = f"{kind} {name!a} of tenant {tenant_id!a}"
        if not seqs or args.dry_run:
            print(f"{whose}: facts of {len(seqs)} calls {'would go' if seqs else 'are kept'}")
            return 0
        is_overwritten = await retention.overwrite_deleted()
        await record(store, erased_facts(clock, tenant_id, kind, len(seqs)))
        erased = await retention.erase(tenant_id, seqs)
        print(
            f"{whose}: facts of {erased} calls erased, receipts {seqs[0]} to {seqs[-1]}. The "
            "receipts stay, with ids but without arguments; the salts are gone, so that their "
            "commitments say nothing."
        )
        if not is_overwritten:
            print("The server overwrites what was deleted when it vacuums.")
        print("Backups and archives made before still hold it: they are yours to replace.")
        return 0 if print_reports([await verify_chain(store, tenant_id)]) else 1
    finally:
        await store.close()
