"""`aegis-sidecar soc verify INCIDENT|FILE`: what an incident rests on, and what that shows.

Knows: the words. An incident is looked up in the store, a pack is read from its file; the same
verifier judges both.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import add_store_arguments, finished, store_url
from sidecar.cli.os_error_text import os_error_text
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.ledger.anchors import TrustedKey
    from sidecar.ledger.checkpoint_file import Kept
    from sidecar.soc.pack_form import Pack
    from sidecar.soc.pack_verdict import PackVerdict
    from storage.sql_store import SqlReader

NAME = "verify"
HELP = "exit 0: the incident holds, 1: tampered with or not there, 2: unreadable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to verify, and against what."""
    add_store_arguments(parser)
    parser.add_argument(
        "incident", metavar="INCIDENT|FILE", help="an incident's id, or what `soc pack` wrote"
    )
    parser.add_argument("--tenant", help="whose (default: the only tenant there is)")
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON object")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NOTE",
        help="a signed head that was kept elsewhere, a file of them, or a folder of such files; "
        "more than once if wanted",
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="PUBLIC",
        help="a public key that is trusted: NAME+ID+KEY, or a file with one; then all has to be "
        "signed by it",
    )


def run(args: argparse.Namespace) -> int:
    """0 holds, 1 tampered with or not there, 2 wrong usage or unreadable."""
    from pathlib import Path

    from sidecar.cli.receipts_heads import Unreadable, heads_for, trusted_keys

    try:
        trusted = trusted_keys(args.key)
        heads = heads_for("-", args.checkpoint)
        if Path(args.incident).suffix == ".json" or Path(args.incident).is_file():
            return _of_file(args, heads, trusted)
    except Unreadable as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    return finished(_of_store(args, heads, trusted), trouble=2)


def _of_file(args: argparse.Namespace, heads: Sequence[Kept], trusted: Sequence[TrustedKey]) -> int:
    from pathlib import Path

    from sidecar.cli.receipts_heads import Unreadable
    from sidecar.soc.pack_form import PACK_BYTES_MAX
    from sidecar.soc.pack_verdict import pack_verdict, read_pack

    try:
        with Path(args.incident).open("rb") as handle:
            data = handle.read(PACK_BYTES_MAX + 1)
        if len(data) > PACK_BYTES_MAX:
            raise Unreadable(f"it is larger than {PACK_BYTES_MAX} bytes")
        pack = read_pack(data)
    except (OSError, ValueError) as error:
        raise Unreadable(os_error_text(error)) from error
    return _said(args, pack_verdict(pack, heads, trusted))


async def _of_store(
    args: argparse.Namespace, heads: Sequence[Kept], trusted: Sequence[TrustedKey]
) -> int:
    import storage
    from sidecar.cli.chosen_store import tenant_of
    from sidecar.soc.pack_verdict import pack_verdict
    from sidecar.soc.packing import held_against

    reader = await storage.open_reader(store_url(args))
    try:
        tenant = await tenant_of(reader, args.tenant)
        size, faults = await held_against(reader, tenant, heads)
        pack = await packed_from(reader, tenant, args.incident, with_facts=True, size=size)
    finally:
        await reader.close()
    if pack is None:
        return 1
    verdict = pack_verdict(pack, heads, trusted)
    verdict.faults[:0] = [one for one in faults if one not in verdict.faults]
    return _said(args, verdict)


async def packed_from(
    reader: SqlReader,
    tenant: str,
    incident: str,
    *,
    with_facts: bool,
    size: int | None = None,
) -> Pack | None:
    """The pack; None, and said on stderr, where there is none. Raises a StoreError."""
    from sidecar.clock import Clock
    from sidecar.soc.incidents import IncidentRefused
    from sidecar.soc.pack_verdict import unreadable
    from sidecar.soc.packing import packed

    try:
        return await packed(reader, Clock(), tenant, incident, with_facts=with_facts, size=size)
    except IncidentRefused as refused:
        print(f"{refused.title} [{refused.code}]\n    {refused.next_step}", file=sys.stderr)
    except ValueError as error:
        print("\n".join(verdict_lines(unreadable(tenant, incident, error))))
    return None


def _said(args: argparse.Namespace, verdict: PackVerdict) -> int:
    if args.json:
        import dataclasses
        import json

        print(json.dumps({"holds": verdict.holds, **dataclasses.asdict(verdict)}))
    else:
        print("\n".join(verdict_lines(verdict)))
    return 0 if verdict.holds else 1


def verdict_lines(verdict: PackVerdict) -> list[str]:
    """A verdict, as people read it."""
    what = f"incident {verdict.incident_id!a} of tenant {verdict.tenant!a}"
    if not verdict.holds:
        lines = [f"TAMPERED: {what}", *(f"    {_plain(one)}" for one in verdict.faults)]
        return [
            *lines,
            f"{verdict.receipts} of "
            f"{counted(verdict.wanted, 'receipt holds', 'receipts hold')} by themselves",
        ]
    anchored = f"anchored at {verdict.signed_size}" if verdict.key else "not anchored"
    return [
        f"verified: {what}, {verdict.receipts} of {counted(verdict.wanted, 'receipt')}, {anchored}",
        *(f"shown: {_plain(one)}" for one in verdict.shown),
        *(f"not shown: {_plain(one)}" for one in verdict.not_shown),
    ]


def _plain(text: str) -> str:
    return ascii(text)[1:-1]
