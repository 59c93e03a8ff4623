"""`aegis-sidecar receipts export`: takes the record away, with the signed heads beside it."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from sidecar.cli.chosen_store import (
    WrongUsage,
    add_store_arguments,
    ready_partial,
    store_url,
)
from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.own_output import silence
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
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

    from sidecar.cli.told_to_end import ended_in_order
    from storage.errors import StoreError

    try:
        with ended_in_order():
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
        with _opened(args.output) as to:
            async for line in lines:
                to.write(line)
            to.flush()
        if args.output:
            beside = Path(args.output + ".checkpoints")
            heads = await _checkpoint_lines(reader, str(tenant_id))
            _write_beside(beside, heads)
    finally:
        await reader.close()
    return 0


@contextmanager
def _opened(name: str | None) -> Iterator[BinaryIO]:
    """Where the lines go. A file gets its name once all are written: one that was broken off would
    verify, as a chain that ends there; and what was there before stays until then."""
    from pathlib import Path

    if not name:
        yield sys.stdout.buffer
        return
    given = Path(name)
    is_there = given.exists()
    if is_there and not given.is_file():  # a pipe, a device, /dev/stdout
        with given.open("wb") as to:
            yield to
        return
    target = given.resolve()
    partial = ready_partial(target)
    try:
        opened = partial.open("xb")
    except OSError as error:
        error.filename = name  # the one that was named
        raise
    try:
        with opened as to:
            if is_there:
                partial.chmod(target.stat().st_mode & 0o777)
            yield to
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


async def _checkpoint_lines(reader: SqlReader, tenant_id: str) -> list[bytes]:
    """The signed heads that the store keeps, oldest first; of an older version it has none."""
    from sidecar.ledger.checkpoint_file import line_of
    from sidecar.ledger.proofs import LIST_MAX, list_checkpoints
    from storage.retention import CareReader
    from storage.tree import CHECKPOINTS_SINCE, SIGNED

    if await CareReader(reader).schema_version() < CHECKPOINTS_SINCE:
        return []
    rows = await list_checkpoints(reader, tenant_id, limit=LIST_MAX)
    return [line_of(row.note, row.at_us) for row in reversed(rows) if row.kind == SIGNED]


def _write_beside(path: Path, lines: list[bytes]) -> None:
    if lines:
        path.write_bytes(b"".join(lines))
        print(f"{path}: {counted(len(lines), 'signed head')}", file=sys.stderr)
