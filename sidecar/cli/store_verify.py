"""`aegis-sidecar store verify`: whether a store holds, as it stands, also while it is in use.

Knows: that nothing is copied or changed. A chain that grows meanwhile is followed as far as it was
at some moment. Must not know: what makes a receipt sound, how rows are held against the record.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from sidecar.cli.chosen_store import (
    add_store_arguments,
    finished,
    print_reports,
    store_url,
    trusted_keys_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.ledger.stored_chain import ChainReport

NAME = "verify"
HELP = "whether every chain holds, and all that stands beside it is what was recorded"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and the form of the answer."""
    add_store_arguments(parser)
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.description = (
        "Reads the whole store and changes nothing; on a server too, beside its sidecars. Exit 0: "
        "all holds; 1: something does not, or is not as recorded, or there is nothing; "
        "2: wrong usage."
    )


def run(args: argparse.Namespace) -> int:
    """0 all holds, 1 something does not or cannot be read, 2 wrong usage."""
    return finished(_verify(args))


async def _verify(args: argparse.Namespace) -> int:
    import storage
    from sidecar.ledger.stored_chain import verify_store
    from storage.schema_check import check_reader

    trusted = trusted_keys_of(args)
    reader = await storage.open_reader(store_url(args))
    try:
        await check_reader(reader)
        reports = await verify_store(reader, trusted)
    finally:
        await reader.close()
    if args.json:
        print(json.dumps({"holds": is_sound(reports), "tenants": list(map(_told, reports))}))
    else:
        print_reports(reports)
    return 0 if is_sound(reports) else 1


def is_sound(reports: Sequence[ChainReport]) -> bool:
    """No chain is broken, no call went by a yes that nobody gave, and nothing stands in the store
    that no change left there. Of nothing that cannot be said: a copy may have come without rows."""
    return bool(reports) and all(
        one.fault is None and not one.unsaid and one.strays == () for one in reports
    )


def _told(report: ChainReport) -> dict[str, Any]:
    return {
        "tenant": report.tenant_id,
        "first_seq": report.first_seq,
        "last_seq": report.last_seq,
        "head_hash": report.head_hash,
        "root": report.root,
        "fault": report.fault,
        "anchored_at": report.anchors.size,
        "facts": report.facts,
        "not_vouched_for": report.unvouched,
        "changes_without_event": report.untold,
        "by_a_yes_not_on_record": [one.seq for one in report.unsaid],
        "otherwise_than_recorded": None if report.strays is None else list(report.strays),
    }
