"""`aegis-sidecar receipts checkpoint`: the signed heads that the store keeps."""

from __future__ import annotations

import argparse
import sys

from sidecar.cli.chosen_store import (
    WrongUsage,
    add_store_arguments,
    finished,
    store_url,
    tenant_of,
    time_text,
)
from sidecar.counted import counted

NAME = "checkpoint"
HELP = "the latest signed head of a chain, or the last few"

LIST_MAX = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, how many, where to."""
    add_store_arguments(parser)
    parser.add_argument("--tenant", help="whose (default: the only tenant there is)")
    parser.add_argument(
        "--list", type=int, metavar="N", help="one line for each of the last N, forks included"
    )
    parser.add_argument("--output", metavar="FILE", help="the note goes to a new file")


def run(args: argparse.Namespace) -> int:
    """0 shown, 1 there is none, or store trouble, 2 wrong usage."""
    return finished(_checkpoint(args))


async def _checkpoint(args: argparse.Namespace) -> int:
    import storage
    from sidecar.cli.receipts_heads import write_new
    from sidecar.ledger.proofs import latest_checkpoint, list_checkpoints

    if args.list is not None and not 1 <= args.list <= LIST_MAX:
        raise WrongUsage(f"--list takes a number from 1 to {LIST_MAX}")
    reader = await storage.open_reader(store_url(args))
    try:
        tenant_id = await tenant_of(reader, args.tenant)
        latest = await latest_checkpoint(reader, tenant_id)
        rows = await list_checkpoints(reader, tenant_id, limit=args.list or 1)
        head = await reader.head(tenant_id)
    finally:
        await reader.close()
    if args.list is not None:
        for row in rows:
            print(f"{row.size:>12}  {time_text(row.at_us)}  {row.kind:<8}  {row.root}")
        return 0 if rows else 1
    if latest is None:
        print(
            f"no head of {tenant_id!r} was signed yet: `receipts.key` in sidecar.yaml names the "
            "key, and the running sidecar signs",
            file=sys.stderr,
        )
        return 1
    if args.output:
        write_new(args.output, latest.note)
    else:
        sys.stdout.write(latest.note)
    left = head.seq - latest.size
    print(
        f"signed {time_text(latest.at_us)}, {counted(latest.size, 'receipt')} of {tenant_id!a}; "
        f"{left} came after it",
        file=sys.stderr,
    )
    return 0
