"""`aegis-sidecar soc pack INCIDENT --to FILE`: an incident with all it rests on, as one file."""

from __future__ import annotations

import argparse

from sidecar.cli.chosen_store import add_store_arguments, finished, store_url
from sidecar.counted import counted

NAME = "pack"
HELP = "an incident with its receipts and proofs, as one file that `soc verify` takes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which incident, where to."""
    add_store_arguments(parser)
    parser.add_argument("incident", metavar="INCIDENT", help="its id: `incidents list`")
    parser.add_argument("--to", required=True, metavar="FILE", help="a new file, NAME.json")
    parser.add_argument("--tenant", help="whose (default: the only tenant there is)")
    parser.add_argument(
        "--without-facts",
        action="store_true",
        help="without the arguments of calls and what rules saw of them",
    )


def run(args: argparse.Namespace) -> int:
    """0 written, 1 it cannot be, 2 wrong usage."""
    return finished(_pack(args))


async def _pack(args: argparse.Namespace) -> int:
    import storage
    from sidecar.cli.chosen_store import tenant_of
    from sidecar.cli.receipts_heads import write_new
    from sidecar.cli.soc_verify import packed_from

    reader = await storage.open_reader(store_url(args))
    try:
        tenant = await tenant_of(reader, args.tenant)
        pack = await packed_from(reader, tenant, args.incident, with_facts=not args.without_facts)
    finally:
        await reader.close()
    if pack is None:
        return 1
    write_new(args.to, pack.model_dump_json(indent=1) + "\n")
    # What nobody has signed does not hold by anybody's key.
    by_key = " --key PUBLIC" if any(tree.note for tree in pack.trees) else ""
    print(
        f"{args.to}: {counted(len(pack.alerts), 'alert')}, "
        f"{counted(len(pack.receipts), 'receipt')}; verify it with "
        f"`soc verify {args.to}{by_key}`"
    )
    return 0
