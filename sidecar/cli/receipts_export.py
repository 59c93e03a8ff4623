"""`aegis-sidecar receipts export`: takes the record away, with the signed heads beside it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, BinaryIO

from sidecar.cli.chosen_store import WrongUsage, add_store_arguments, store_url
from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.own_output import silence

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from storage.sql_store import SqlReader

NAME = "export"
HELP = "receipts as JSON Lines, oldest first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, from where, to where."""
    parser.add_argument("--tenant", help="whose receipts (default: the only tenant there is)")
    add_store_arguments(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="default: standard output. Signed heads go to FILE.checkpoints, where verify finds "
        "them",
    )
    parser.add_argument(
        "--facts", action="store_true", help="with the erasable arguments and facts"
    )


def run(args: argparse.Namespace) -> int:
    """0 done, 1 store trouble, 2 wrong usage."""
    import asyncio

    from storage.errors import StoreError

    try:
        return asyncio.run(_write_export(store_url(args), args))
    except WrongUsage as error:
        print(error, file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"{error} [{error.code}]\n    {error.next_step}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads had enough; what is still buffered goes nowhere
        silence()
        return 0
    except OSError as error:
        print(f"cannot be written: {os_error_text(error)}", file=sys.stderr)
        if not args.output:
            silence()
        return 1


async def _write_export(url: str, args: argparse.Namespace) -> int:
    from pathlib import Path

    import storage
    from sidecar.ledger.export import export_lines
    from storage.retention import CareReader

    tenant_id = args.tenant
    reader = await storage.open_reader(url)
    try:
        tenants = await reader.tenants()
        if tenant_id is None and len(tenants) == 1:
            tenant_id = tenants[0]
        if tenant_id not in tenants:
            wanted = "name a tenant" if tenant_id is None else f"tenant {tenant_id!r} has none"
            print(f"{wanted}; there are receipts of: {', '.join(tenants) or '-'}", file=sys.stderr)
            return 2
        start = await CareReader(reader).cut(str(tenant_id))
        if start.seq:
            print(
                f"receipts 1 to {start.seq} are in archives, the last of them {start.archive}: "
                f"verify this part with --first-seq {start.seq + 1}",
                file=sys.stderr,
            )
        lines = export_lines(reader, str(tenant_id), with_facts=args.facts, start=start)
        # Not before it is known that there is something: what stood in the file stays till then.
        with _opened(args.output) as output:
            async for line in lines:
                output.write(line)
            output.flush()
        if args.output:
            beside = Path(args.output + ".checkpoints")
            heads = await _checkpoint_lines(reader, str(tenant_id))
            _write_beside(beside, heads)
    finally:
        await reader.close()
    return 0


def _opened(name: str | None) -> AbstractContextManager[BinaryIO]:
    import contextlib
    from pathlib import Path

    return Path(name).open("wb") if name else contextlib.nullcontext(sys.stdout.buffer)


async def _checkpoint_lines(reader: SqlReader, tenant_id: str) -> list[bytes]:
    """The signed heads that the store keeps, oldest first."""
    from sidecar.ledger.checkpoint_file import line_of
    from sidecar.ledger.proofs import LIST_MAX, list_checkpoints
    from storage.tree import SIGNED

    rows = await list_checkpoints(reader, tenant_id, limit=LIST_MAX)
    return [line_of(row.note, row.at_us) for row in reversed(rows) if row.kind == SIGNED]


def _write_beside(path: Path, lines: list[bytes]) -> None:
    if lines:
        path.write_bytes(b"".join(lines))
        print(f"{path}: {len(lines)} signed heads", file=sys.stderr)
