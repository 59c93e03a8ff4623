"""Which store a command of care is about, and how it says what it found.

Knows: --config and --store, the words for a StoreError and for what was verified.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Coroutine, Sequence
from textwrap import indent
from typing import TYPE_CHECKING, Any

from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.receipts_alive import liveness_text
from sidecar.cli.receipts_heads import UNANCHORED
from sidecar.cli.receipts_said_yes import strays_text, unsaid_text
from sidecar.counted import counted

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.config.model import Config
    from sidecar.ledger.anchors import TrustedKey
    from sidecar.ledger.stored_chain import ChainReport
    from storage.sql_store import SqlReader

_SQLITE = "sqlite:"
#: How the sidecar's own role copies its database. Row security hides every row from whoever has not
#: named a tenant, also from the tables' owner: without the first part the copy has none.
SERVER_DUMP = "PGOPTIONS='-c aegis.tenants=*' pg_dump --enable-row-security"


class WrongUsage(Exception):
    """The command was given wrongly; the message says how. Exit code 2."""


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """How to name the store."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    where.add_argument("--store", help="store URL, instead of the configuration's")


def store_url(args: argparse.Namespace) -> str:
    """The URL that was named, or the configuration's; raises WrongUsage with its problems."""
    return str(args.store) if args.store else _configured(args.config).store


def trusted_keys_of(args: argparse.Namespace) -> list[TrustedKey]:
    """Whose signed heads anchor the store's chains: the configuration's key. A store that is named
    alone comes with none. Raises WrongUsage as `store_url` does."""
    from sidecar.ledger.anchors import TrustedKey
    from sidecar.signed_note import SigningKey

    key = None if args.store else _configured(args.config).receipts.key
    return [] if key is None else [TrustedKey(SigningKey(key.reveal()).public)]


def _configured(named: str | None) -> Config:
    import os
    from pathlib import Path

    from sidecar.config.load import load_config

    path = Path(named or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, ())
    if loaded.local is None:
        problems = "\n".join(str(problem) for problem in loaded.problems)
        raise WrongUsage(f"{problems}\n(or name the store with --store)")
    return loaded.local


def store_file(url: str, verb: str) -> Path:
    """The file of a SQLite store; raises WrongUsage where a server keeps the data."""
    from storage.sqlite_file import path_of_url

    if not url.startswith(_SQLITE):
        raise WrongUsage(
            f"`store {verb}` is for SQLite files. A PostgreSQL store is backed up with the "
            "server's own tools: pg_basebackup, your provider's snapshots, or, as the sidecar's "
            f"role, `{SERVER_DUMP}`, which without its first part copies no row."
        )
    return path_of_url(url)


def file_path(name: str) -> Path:
    """The absolute path of a file that was named on the command line."""
    from pathlib import Path

    return Path(name).resolve()


def ready_partial(target: Path) -> Path:
    """Where the file of this name is written first. What killed processes left half written of it
    is removed, and told."""
    from storage.backup import clear_left_behind, partial_of

    removed, left = clear_left_behind(target)
    for path in removed:
        print(f"{path} was left half written by a process that is gone: removed", file=sys.stderr)
    for path in left:
        print(f"{path} is being written by another process, or was left behind", file=sys.stderr)
    return partial_of(target)


def finished(work: Coroutine[Any, Any, int], *, writes: bool = False, trouble: int = 1) -> int:
    """Runs the work; gives its exit code, or 2 for wrong usage and `trouble` for a store or file
    that is, after saying on stderr what went wrong. Told to end, it ends in order."""
    import asyncio

    from sidecar.cli.told_to_end import ended_in_order
    from storage.errors import StoreError, StoreHeld

    try:
        with ended_in_order():
            return asyncio.run(work)
    except WrongUsage as error:
        print(error, file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"{error} [{error.code}]", file=sys.stderr)
        if writes and isinstance(error, StoreHeld):
            print(
                "    A sidecar runs on this store, or another command is at work: stop it first.",
                file=sys.stderr,
            )
        else:
            print(f"    {error.next_step}", file=sys.stderr)
        return trouble
    except BrokenPipeError:  # whoever reads what is printed has had enough: no trouble of the store
        raise
    except OSError as error:
        print(f"cannot be read or written: {os_error_text(error)}", file=sys.stderr)
        return trouble


async def tenant_of(reader: SqlReader, named: str | None) -> str:
    """The tenant that was named, or the only one there is; raises WrongUsage."""
    tenants = await reader.tenants()
    if named is None and len(tenants) == 1:
        return tenants[0]
    if named is None or named not in tenants:
        wanted = "name a tenant with --tenant" if named is None else f"there is no tenant {named!r}"
        raise WrongUsage(f"{wanted}; there are: {', '.join(tenants) or '-'}")
    return named


def print_reports(reports: Sequence[ChainReport]) -> bool:
    """Says of each chain how far it holds, how far signed heads vouch for it, and what it tells of
    its sidecar; whether all hold."""
    for report in reports:
        if report.fault is not None:
            print(
                f"tenant {report.tenant_id!a} DOES NOT HOLD: {report.fault} "
                f"(receipts {report.first_seq} to {report.last_seq} hold)",
                file=sys.stderr,
            )
            continue
        held = f"receipts {report.first_seq} to {report.last_seq} hold"
        loose = f" ({report.unvouched} of them not vouched for)" if report.unvouched else ""
        print(
            f"tenant {report.tenant_id!a}: {held}, {report.facts} with facts{loose}; "
            f"{_anchored_text(report)}; head hash {report.head_hash or '-'}"
        )
        if report.cut is not None:
            print(f"    receipts 1 to {report.cut.seq} are in archives, last {report.cut.archive}")
        if report.untold:
            print(
                f"    of {counted(report.untold, 'change')} that receipts tell of there "
                "is no audit event"
            )
        told = unsaid_text(report) + strays_text(report.strays) + liveness_text(report.alive)
        print(indent(told, "    "), end="")
    if not reports:
        print("there are no receipts in it")
    elif any(report.fault is None and not report.anchors.agreeing for report in reports):
        print(UNANCHORED)
    return all(report.fault is None for report in reports)


def _anchored_text(report: ChainReport) -> str:
    anchors, last_seq = report.anchors, report.last_seq
    if anchors.size:
        since = f", unanchored since {anchors.size + 1}" if last_seq > anchors.size else ""
        return f"anchored at {anchors.size} by key {anchors.key}{since}"
    unanchored = f"unanchored since {report.first_seq}"
    if anchors.agreeing:
        return (
            f"{unanchored}: "
            f"{counted(anchors.agreeing, 'signed head agrees', 'signed heads agree')}, and nothing "
            "here says who signed them (the key stands in the configuration: --config)"
        )
    return unanchored


def size_text(count: int) -> str:
    """A size for reading."""
    for unit, bytes_of_unit in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= bytes_of_unit:
            return f"{count / bytes_of_unit:.1f} {unit}"
    return f"{count} B"


def time_text(at_us: int) -> str:
    """A time as ISO 8601, UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")
