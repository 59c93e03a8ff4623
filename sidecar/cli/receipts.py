"""`aegis-sidecar receipts export|verify`: takes the record away, and proves it offline."""

from __future__ import annotations

import argparse
import sys

NAME = "receipts"
HELP = "export a tenant's receipts; verify exported receipts offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """export and verify."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    export = actions.add_parser("export", help="receipts as JSON Lines, oldest first")
    export.add_argument("--tenant", help="whose receipts (default: the only tenant there is)")
    export.add_argument(
        "--config", help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)"
    )
    export.add_argument("--store", help="store URL, instead of the configuration's")
    export.add_argument("--output", help="file to write (default: standard output)")
    export.add_argument(
        "--facts", action="store_true", help="with the erasable facts and arguments"
    )
    verify = actions.add_parser("verify", help="exit 0: holds, 1: tampered with, 2: cannot be read")
    verify.add_argument("file", help="an exported file, or - for standard input")
    verify.add_argument("--json", action="store_true", help="the verdict as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 fine, 1 tampered with or store trouble, 2 unreadable input."""
    return _verify(args) if args.action == "verify" else _export(args)


def _verify(args: argparse.Namespace) -> int:
    import dataclasses
    import json
    from pathlib import Path

    from sidecar.ledger.verify import LINE_BYTES_MAX, Unreadable, verify_lines

    try:
        with sys.stdin.buffer if args.file == "-" else Path(args.file).open("rb") as handle:
            lines = iter(lambda: handle.readline(LINE_BYTES_MAX + 1), b"")
            verdict = verify_lines(lines)
    except (OSError, Unreadable) as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(dataclasses.asdict(verdict)))
    elif verdict.holds:
        print(
            f"verified: {verdict.count} receipts of tenant {verdict.tenant_id}, "
            f"{verdict.first_seq} to {verdict.last_seq}, head {verdict.head_hash}"
        )
        if verdict.root:
            print(f"tree root: {verdict.root}")
        else:
            print(f"a part of the chain: what came before {verdict.first_seq} was not given")
        print(
            "unanchored: there is no signed checkpoint, so receipts cut from the end, or a "
            "history rewritten as a whole, would not be seen"
        )
    else:
        print(f"TAMPERED: {verdict.first_bad}")
        print(f"the {verdict.count} receipts before it hold")
    return 0 if verdict.holds else 1


def _export(args: argparse.Namespace) -> int:
    import asyncio
    import contextlib
    import os
    from pathlib import Path

    from sidecar.config.load import load_config
    from storage.errors import StoreError

    url = args.store
    if url is None:
        path = Path(args.config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
        loaded = load_config(path, os.environ, [])
        if loaded.config is None:
            for problem in loaded.problems:
                print(problem, file=sys.stderr)
            return 1
        url = loaded.config.store
    with contextlib.ExitStack() as stack:
        output = sys.stdout.buffer
        if args.output:
            output = stack.enter_context(Path(args.output).open("wb"))
        try:
            return asyncio.run(_write_export(url, args.tenant, args.facts, output))
        except StoreError as error:
            print(f"{error} [{error.code}]\n    {error.next_step}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # the reader had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


async def _write_export(url: str, tenant: str | None, with_facts: bool, output: object) -> int:
    import storage
    from sidecar.ledger.export import export_lines

    reader = await storage.open_reader(url)
    try:
        tenants = await reader.tenants()
        if tenant is None:
            if len(tenants) != 1:
                named = ", ".join(tenants) or "nobody yet"
                print(f"name a tenant with --tenant; there is {named}", file=sys.stderr)
                return 2
            tenant = tenants[0]
        elif tenant not in tenants:
            print(f"nothing is recorded of tenant {tenant}", file=sys.stderr)
            return 1
        write = output.write  # type: ignore[attr-defined]
        async for line in export_lines(reader, tenant, with_facts=with_facts):
            write(line)
        output.flush()  # type: ignore[attr-defined]
    finally:
        await reader.close()
    return 0
