"""`aegis-sidecar store erase`: erases what is kept of one agent's, user's or call's arguments.

Beside receipts, in approvals that nobody needs any more, and in what sinks were told of those.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.cli.chosen_store import (
    add_store_arguments,
    finished,
    print_reports,
    store_url,
    tenant_of,
    trusted_keys_of,
)
from storage.records import AFTER_ALL_IDS

if TYPE_CHECKING:
    from storage.sql_store import SqlStore

_PAGE_ROWS: Final = 500

NAME = "erase"
HELP = "erase the arguments of one agent, user or call; receipts stay"


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

    clock, url, trusted = Clock(), store_url(args), trusted_keys_of(args)
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
        asked = await _asked(store, tenant_id, kind, name)
        news = await _news(store, tenant_id, asked.ids)
        whose = f"{kind} {name!a} of tenant {tenant_id!a}"
        if asked.open_count:
            print(
                f"{whose}: {asked.open_count} approvals are open, and stay as they are: decide "
                "them (`approvals list`), then erase again."
            )
        what = f"facts of {len(seqs)} calls, what {len(asked.texts)} approvals asked"
        is_nothing = not (seqs or asked.texts or news)
        if is_nothing or args.dry_run:
            print(f"{whose}: {what} {'are kept' if is_nothing else 'would go'}")
            return 0
        is_overwritten = await retention.overwrite_deleted()
        await record(store, erased_facts(clock, tenant_id, kind, len(seqs), len(asked.texts)))
        erased = await retention.erase(tenant_id, seqs)
        print(f"{whose}: facts of {erased} calls erased{_stretch(seqs)}.")
        changed = await retention.erase_approvals(tenant_id, asked.texts)
        told = await retention.erase_deliveries(tenant_id, news)
        if changed or told:
            print(f"What {changed} approvals asked is erased, and {told} messages about it.")
        print(
            "The receipts stay, with ids but without arguments; the salts are gone, so that their "
            "commitments say nothing. The hash of an action that needed an approval has no salt."
        )
        if not is_overwritten:
            print("The server overwrites what was deleted when it vacuums.")
        print("Backups and archives made before still hold it: they are yours to replace.")
        return 0 if print_reports([await verify_chain(store, tenant_id, trusted)]) else 1
    finally:
        await store.close()


def _stretch(seqs: Sequence[int]) -> str:
    return f", receipts {seqs[0]} to {seqs[-1]}" if seqs else ""


class _Asked(NamedTuple):
    """What is to stand in approvals in place of what they asked; `ids` also of those in which it
    does already."""

    texts: dict[str, str]
    ids: frozenset[str]
    open_count: int


async def _asked(store: SqlStore, tenant_id: str, kind: str, name: str) -> _Asked:
    from sidecar.approvals.erasing import erased_text, is_about, is_erased, is_open

    texts, ids, open_count, before = dict[str, str](), set[str](), 0, AFTER_ALL_IDS
    while rows := await store.approvals_before(tenant_id, before, _PAGE_ROWS):
        before = rows[-1].approval_id
        for row in rows:
            if not is_about(row, kind, name):
                continue
            if is_open(row):
                open_count += 1
                continue
            ids.add(row.approval_id)
            if not is_erased(row):
                texts[row.approval_id] = erased_text(row)
    return _Asked(texts, frozenset(ids), open_count)


async def _news(store: SqlStore, tenant_id: str, approval_ids: frozenset[str]) -> list[str]:
    """Deliveries that tell of these approvals."""
    from sidecar.soc.deliveries import approval_told

    found: list[str] = []
    before = AFTER_ALL_IDS
    while approval_ids and (rows := await store.deliveries_before(tenant_id, before, _PAGE_ROWS)):
        before = rows[-1].delivery_id
        found += (row.delivery_id for row in rows if approval_told(row) in approval_ids)
    return found
