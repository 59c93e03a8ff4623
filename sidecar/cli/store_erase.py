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
from sidecar.cli.command_parser import some_text
from sidecar.counted import counted
from sidecar.kept_id import kept_id

if TYPE_CHECKING:
    from sidecar.control.erasing import Erasable, Erased, Erasure
    from sidecar.control.erasing_search import Found
    from storage.sql_store import SqlReader

NAME = "erase"
HELP = "erase the arguments of one agent, user or call; receipts stay"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and whose facts."""
    add_store_arguments(parser)
    parser.add_argument(
        "--tenant", type=some_text, help="of which tenant (default: the only one there is)"
    )
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--agent", type=some_text, metavar="ID", help="every call of this agent")
    whose.add_argument("--user", type=some_text, metavar="ID", help="every call for this user")
    whose.add_argument(
        "--call", type=some_text, metavar="ID", help="one call, by its Aegis-Call-Id"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def run(args: argparse.Namespace) -> int:
    """0 erased (or there was nothing), 1 failed, 2 wrong usage."""
    return finished(_erase(args), writes=True)


async def _erase(args: argparse.Namespace) -> int:
    import storage
    from sidecar.clock import Clock
    from sidecar.control.erasing import Erasable, Erasure
    from sidecar.ledger.stored_chain import verify_chain
    from sidecar.local_users import command_actor

    clock, url, trusted = Clock(), store_url(args), trusted_keys_of(args)
    reader = await storage.open_reader(url)  # a store that is not there is not made
    try:
        if args.dry_run:
            return await _would_go(Erasable(reader), *await _wanted(reader, args))
    finally:
        await reader.close()
    store = await storage.open_store(url, now_us=clock.now_us)
    try:
        erasure = Erasure(store, clock, command_actor())
        tenant, kind, name = await _wanted(store, args)
        await _finish_interrupted(erasure)
        wanted = await erasure.about(tenant, kind, name)
        found = await erasure.found(wanted)
        _say_what_stays(wanted.words, found)
        if found.is_nothing:
            print(_nothing(wanted.words, found))
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


async def _wanted(reader: SqlReader, args: argparse.Namespace) -> tuple[str, str, str]:
    """Tenant, kind and name of whose arguments are meant; raises WrongUsage."""
    from storage.retention import SUBJECT_KINDS

    [(kind, name)] = [
        (kind, getattr(args, kind)) for kind in SUBJECT_KINDS if getattr(args, kind) is not None
    ]
    name = kept_id(name) if kind == "call" else name
    return await tenant_of(reader, args.tenant), kind, name


async def _would_go(erasable: Erasable, tenant: str, kind: str, name: str) -> int:
    """Says what is there; the store is only read, and may be worked on meanwhile."""
    marked = await erasable.interrupted()
    if marked is not None:
        print(f"{marked.words}: an erasure was interrupted, and would be finished first")
    wanted = await erasable.about(tenant, kind, name)
    found = await erasable.found(wanted)
    _say_what_stays(wanted.words, found)
    if found.is_nothing:
        print(_nothing(wanted.words, found))
    else:
        print(f"{wanted.words}: {_kept(found)} would go")
    return 0


async def _finish_interrupted(erasure: Erasure) -> None:
    marked = await erasure.interrupted()
    if marked is None:
        return
    await erasure.overwrites()
    erased = await erasure.finish(marked)
    print(
        f"{marked.words}: an erasure that was interrupted is finished: facts of {erased.facts} "
        f"calls, what {counted(erased.approvals, 'approval')} asked and "
        f"{counted(erased.alerts, 'alert')} quoted."
    )


def _nothing(words: str, found: Found) -> str:
    return (
        f"{words}: {_kept(found)} are kept: nothing is there to erase. If you expected more, look "
        "at how it is spelt."
    )


def _say_what_stays(words: str, found: Found) -> None:
    for line in _stays(words, found):
        print(line)


def _kept(found: Found) -> str:
    """What there is, as people read it."""
    quoted = f", what {counted(found.alerts, 'alert')} quoted" if found.alerts else ""
    return (
        f"facts of {counted(len(found.seqs), 'call')}, what "
        f"{counted(len(found.approvals), 'approval')} asked{quoted}"
    )


def _stays(words: str, found: Found) -> Iterator[str]:
    """What is not erased, a line each."""
    if found.open_count:
        still_open = counted(
            found.open_count,
            "approval is open, and stays as it is",
            "approvals are open, and stay as they are",
        )
        yield (f"{words}: {still_open}: decide them (`approvals list`), then erase again.")
    if found.unknown:
        yield (
            f"{words}: of {counted(found.unknown, 'alert')} it cannot be told whose "
            "call they quote, for its "
            "receipt is archived or their evidence unreadable. They stay: name the agent or the "
            "call if one of them is meant."
        )
    if found.unreadable:
        yield (
            f"{words}: {counted(found.unreadable, 'row')} that may quote it cannot be "
            f"read, and {'stays' if found.unreadable == 1 else 'stay'}: "
            "`soc verify` says what was changed."
        )


def _gone(words: str, found: Found, erased: Erased) -> Iterator[str]:
    """What was erased, a line each."""
    yield f"{words}: facts of {counted(erased.facts, 'call')} erased{_stretch(found.seqs)}."
    if erased.approvals or erased.told:
        yield (
            f"What {counted(erased.approvals, 'approval')} asked is erased, and "
            f"{counted(erased.told, 'message')} "
            "about it."
        )
    if erased.alerts or erased.quoted:
        yield (
            f"What {counted(erased.alerts, 'alert')} quoted is erased, wherever it was "
            "copied to, and "
            f"{counted(erased.quoted, 'message')} about them."
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
