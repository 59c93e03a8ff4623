"""`aegis-sidecar store erase`: erases what is kept of one agent's, user's or call's arguments.

Knows: the words. Copies are beside receipts, in approvals that nobody needs any more, in what
alerts quoted, and in what sinks were told of those. What people wrote stays, and that is said.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import (
    add_store_arguments,
    finished,
    print_reports,
    store_url,
    tenant_of,
    trusted_keys_of,
)
from sidecar.kept_id import kept_id

if TYPE_CHECKING:
    from sidecar.control.erasing import Erased, Erasure
    from sidecar.control.erasing_search import Found

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
    from sidecar.clock import Clock
    from sidecar.control.erasing import Erasure
    from sidecar.ledger.stored_chain import verify_chain
    from sidecar.local_users import command_actor
    from storage.retention import SUBJECT_KINDS

    clock, url, trusted = Clock(), store_url(args), trusted_keys_of(args)
    [(kind, name)] = [
        (kind, getattr(args, kind)) for kind in SUBJECT_KINDS if getattr(args, kind) is not None
    ]
    if kind == "call":
        name = kept_id(name)
    await (await storage.open_reader(url)).close()  # a store that is not there is not made
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        tenant = await tenant_of(store, args.tenant)
        erasure = Erasure(store, clock, command_actor())
        await _finish_interrupted(erasure, is_dry=args.dry_run)
        wanted = await erasure.about(tenant, kind, name)
        found = await erasure.found(wanted)
        for line in _stays(wanted.words, found):
            print(line)
        what = _kept(found)
        if found.is_nothing:
            print(
                f"{wanted.words}: {what} are kept: nothing is there to erase. If you expected "
                "more, look at how it is spelt."
            )
            return 0
        if args.dry_run:
            print(f"{wanted.words}: {what} would go")
            return 0
        is_overwritten = await erasure.overwrites()
        erased = await erasure.erase(wanted)
        print("\n".join(_gone(wanted.words, found, erased)))
        if not is_overwritten:
            print("The server overwrites what was deleted when it vacuums.")
        print(
            "Backups, archives, packs and logs made before still hold it, and so do sinks that "
            "were told: they are yours to replace."
        )
        return 0 if print_reports([await verify_chain(store, tenant, trusted)]) else 1
    finally:
        await store.close()


async def _finish_interrupted(erasure: Erasure, *, is_dry: bool) -> None:
    marked = await erasure.interrupted()
    if marked is None:
        return
    if is_dry:
        print(f"{marked.words}: an erasure was interrupted, and would be finished first")
        return
    await erasure.overwrites()
    erased = await erasure.finish(marked)
    print(
        f"{marked.words}: an erasure that was interrupted is finished: facts of {erased.facts} "
        f"calls, what {erased.approvals} approvals asked and {erased.alerts} alerts quoted."
    )


def _kept(found: Found) -> str:
    """What there is, as people read it."""
    quoted = f", what {found.alerts} alerts quoted" if found.alerts else ""
    return f"facts of {len(found.seqs)} calls, what {len(found.approvals)} approvals asked{quoted}"


def _stays(words: str, found: Found) -> Iterator[str]:
    """What is not erased, a line each."""
    if found.open_count:
        yield (
            f"{words}: {found.open_count} approvals are open, and stay as they are: decide "
            "them (`approvals list`), then erase again."
        )
    if found.unknown:
        yield (
            f"{words}: of {found.unknown} alerts it cannot be told whose call they quote, for its "
            "receipt is archived or their evidence unreadable. They stay: name the agent or the "
            "call if one of them is meant."
        )
    if found.unreadable:
        yield (
            f"{words}: {found.unreadable} rows that may quote it cannot be read, and stay: "
            "`soc verify` says what was changed."
        )


def _gone(words: str, found: Found, erased: Erased) -> Iterator[str]:
    """What was erased, a line each."""
    yield f"{words}: facts of {erased.facts} calls erased{_stretch(found.seqs)}."
    if erased.approvals or erased.told:
        yield (
            f"What {erased.approvals} approvals asked is erased, and {erased.told} messages "
            "about it."
        )
    if erased.alerts or erased.quoted:
        yield (
            f"What {erased.alerts} alerts quoted is erased, wherever it was copied to, and "
            f"{erased.quoted} messages about them."
        )
    if found.unsent:
        yield f"{found.unsent} of the messages had reached nobody yet, and will not."
    yield (
        "The receipts stay, with ids but without arguments; the salts are gone, so that their "
        "commitments say nothing. The hash of an action that needed an approval has no salt."
    )
    yield "What people wrote stays: reasons they gave, and their notes."


def _stretch(seqs: Sequence[int]) -> str:
    return f", receipts {seqs[0]} to {seqs[-1]}" if seqs else ""
