"""`aegis-sidecar store move`: the whole store to another engine, copied, compared and verified.

Knows: words and progress; what is moved and how stands in storage.move.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import finished

if TYPE_CHECKING:
    from sidecar.ledger.stored_chain import ChainReport

NAME = "move"
HELP = "carry the whole store to another engine, compared and verified"

#: A line of progress at most this often.
TELL_EVERY_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--from, --to."""
    parser.add_argument(
        "--from", dest="source", required=True, metavar="URL", help="store to leave"
    )
    parser.add_argument("--to", dest="target", required=True, metavar="URL", help="empty store")


def run(args: argparse.Namespace) -> int:
    """0 when everything stands in the target and verifies, 1 if not, 2 for wrong usage."""
    return finished(_move(args.source, args.target), writes=True)


async def _move(source_url: str, target_url: str) -> int:
    import storage
    from sidecar.clock import Clock
    from sidecar.config.store_url import shown_store
    from sidecar.ledger.stored_chain import verify_chain
    from storage.move import MoveDiffers, move

    clock = Clock()
    shown = shown_store(target_url)
    source, source_store = await storage.open_side(
        source_url, shown_store(source_url), now_us=clock.now_us, is_target=False
    )
    try:
        target, target_store = await storage.open_side(
            target_url, shown, now_us=clock.now_us, is_target=True
        )
        reports: list[ChainReport] = []

        async def verify(tenant_id: str) -> None:
            report = await verify_chain(target_store, tenant_id)
            if report.fault is not None:
                raise MoveDiffers(
                    f"the chain of tenant {tenant_id!r} in the target: {report.fault}"
                )
            reports.append(report)

        try:
            count = await move(source, target, verify, _Teller())
        finally:
            await target_store.close()
    finally:
        await source_store.close()
    print(f"moved {count} receipts of {len(reports)} tenants; every chain verifies in {shown}")
    print(f"Set `store:` to it and start the sidecar. {source.shown} is left as it was, marked.")
    return 0


class _Teller:
    """Progress on stderr, not too often."""

    def __init__(self) -> None:
        self._due_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + TELL_EVERY_S
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
