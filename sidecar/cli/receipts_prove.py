"""`aegis-sidecar receipts prove SEQ`: one receipt in a file that shows it to anybody."""

from __future__ import annotations

import argparse
import sys

from sidecar.cli.chosen_store import add_store_arguments, finished, store_url, tenant_of

NAME = "prove"
HELP = "one receipt with the proof that it is in a signed tree (C2SP tlog-proof)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which receipt, where to."""
    add_store_arguments(parser)
    parser.add_argument("seq", type=int, metavar="SEQ", help="the receipt's number")
    parser.add_argument("--tenant", help="whose (default: the only tenant there is)")
    parser.add_argument(
        "--output", metavar="FILE", help="a new file, NAME.tlog-proof (default: standard output)"
    )


def run(args: argparse.Namespace) -> int:
    """0 shown, 1 it cannot be, 2 wrong usage."""
    return finished(_prove(args))


async def _prove(args: argparse.Namespace) -> int:
    import storage
    from sidecar.cli.receipts_heads import write_new
    from sidecar.ledger.proofs import portable_proof

    reader = await storage.open_reader(store_url(args))
    try:
        tenant_id = await tenant_of(reader, args.tenant)
        text = await portable_proof(reader, tenant_id, args.seq)
    finally:
        await reader.close()
    if not args.output:
        sys.stdout.write(text)
        return 0
    write_new(args.output, text)
    print(f"{args.output}: verify it with `receipts verify-proof {args.output} --key PUBLIC`")
    return 0
