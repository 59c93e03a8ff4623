"""`aegis-sidecar receipts export|verify`: takes the record away, and proves it offline."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from sidecar.ledger.verify import Verdict

NAME = "receipts"
HELP = "export a tenant's receipts; verify exported receipts offline"

UNANCHORED = (
    "unanchored: no signed checkpoint. Receipts cut from the end, or a history rewritten as a "
    "whole, would not be seen; compare the head hash with one you kept."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """export and verify."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    export = actions.add_parser("export", help="receipts as JSON Lines, oldest first")
    export.add_argument("--tenant", help="whose receipts (default: the only tenant there is)")
    where = export.add_mutually_exclusive_group()
    where.add_argument(
        "--config", help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)"
    )
    where.add_argument("--store", help="store URL, instead of the configuration's")
    export.add_argument("--output", metavar="FILE", help="default: standard output")
    export.add_argument(
        "--facts", action="store_true", help="with the erasable arguments and facts"
    )
    verify = actions.add_parser("verify", help="exit 0: holds, 1: tampered with, 2: unreadable")
    verify.add_argument("file", metavar="FILE", help="an exported file, or - for standard input")
    verify.add_argument("--json", action="store_true", help="the verdict as one JSON object")
    verify.add_argument(
        "--first-seq",
        type=_positive,
        default=1,
        metavar="N",
        help="for a later part of a chain: the seq it must begin with (default: 1)",
    )


def run(args: argparse.Namespace) -> int:
    """0 fine, 1 tampered with or store trouble, 2 usage or unreadable input."""
    return _verify(args) if args.action == "verify" else _export(args)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


# -- verify --------------------------------------------------------------------------------


def _verify(args: argparse.Namespace) -> int:
    from pathlib import Path

    from sidecar.ledger.verify import LINE_BYTES_MAX, verify_lines

    try:
        with sys.stdin.buffer if args.file == "-" else Path(args.file).open("rb") as handle:
            lines = iter(lambda: handle.readline(LINE_BYTES_MAX + 2), b"")
            verdict = verify_lines(lines, first_seq=args.first_seq)
    except OSError as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    print(_as_json(verdict) if args.json else _as_text(verdict))
    if verdict.fault is None:
        return 0
    return 2 if verdict.fault.is_unreadable else 1


def _as_json(verdict: Verdict) -> str:
    import dataclasses
    import json

    return json.dumps({"holds": verdict.holds, "is_anchored": False, **dataclasses.asdict(verdict)})


def _as_text(verdict: Verdict) -> str:
    fault = verdict.fault
    if fault is not None:
        word = "UNREADABLE" if fault.is_unreadable else "TAMPERED"
        receipt = f", receipt {fault.seq}" if fault.seq is not None else ""
        return (
            f"{word}: line {fault.line}{receipt}: {fault.what}\n"
            f"{verdict.count} receipts before it hold, up to {verdict.last_seq}"
        )
    if verdict.first_seq == 1:
        extent = f"tree root: {verdict.root}"
    else:
        extent = f"a part: it links to a receipt with the hash {verdict.prev_hash}"
    return (
        f"verified: {verdict.count} receipts of tenant {verdict.tenant_id!a}, "
        f"{verdict.first_seq} to {verdict.last_seq}\n"
        f"head hash: {verdict.head_hash}\n{extent}\n{_rollbacks(verdict)}{UNANCHORED}"
    )


def _rollbacks(verdict: Verdict) -> str:
    """What the chain tells of receipts that it lost; it holds all the same."""
    lines = [
        f"a rollback is recorded at {one.seq}: {ascii(one.what)[1:-1]}\n"
        for one in verdict.rollbacks
    ]
    if verdict.rollback_count > len(lines):
        lines.append(f"{verdict.rollback_count} rollbacks are recorded in all\n")
    return "".join(lines)


# -- export --------------------------------------------------------------------------------


def _export(args: argparse.Namespace) -> int:
    import asyncio
    import contextlib
    import os
    from pathlib import Path

    from storage.errors import StoreError

    url = args.store or _configured_store(args.config)
    if url is None:
        return 1
    try:
        with contextlib.ExitStack() as stack:
            output = sys.stdout.buffer
            if args.output:
                output = stack.enter_context(Path(args.output).open("wb"))
            return asyncio.run(_write_export(url, args.tenant, args.facts, output))
    except StoreError as error:
        print(f"{error} [{error.code}]\n    {error.next_step}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads had enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"cannot be written: {error}", file=sys.stderr)
        return 1


def _configured_store(config: str | None) -> str | None:
    import os
    from pathlib import Path

    from sidecar.config.load import load_config

    path = Path(config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, [])
    if loaded.local is not None:
        return loaded.local.store
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    return None


async def _write_export(url: str, tenant_id: str | None, with_facts: bool, output: BinaryIO) -> int:
    import storage
    from sidecar.ledger.export import export_lines
    from storage.retention import CareReader

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
        lines = export_lines(reader, str(tenant_id), with_facts=with_facts, start=start)
        async for line in lines:
            output.write(line)
        output.flush()
    finally:
        await reader.close()
    return 0
