"""`aegis-sidecar store info`: what is in the store, also while a sidecar runs on it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from sidecar.cli.chosen_store import (
    SERVER_DUMP,
    add_store_arguments,
    finished,
    size_text,
    store_file,
    store_url,
    time_text,
)
from sidecar.cli.data_folder import add_data_folder, witness_of
from sidecar.counted import counted

if TYPE_CHECKING:
    from sidecar.ledger.witness import Witness
    from storage.sql_store import SqlReader

NAME = "info"
HELP = "what is in the store: versions, sizes, rows, tenants"

_ADVICE_FILE = (
    "Back it up with `aegis-sidecar store backup TARGET`, to another disk: it runs beside the "
    "sidecar and verifies the copy. A file copied by other means while the sidecar runs is no "
    "backup. Keep the head hashes elsewhere: they tell a restored store from a cut one."
)
_ADVICE_SERVER = (
    f"Back it up with the server's own tools (`{SERVER_DUMP}`; without the first part it copies no "
    "row), restore it somewhere now and then, and run `store verify` on what you restored. Keep "
    "the head hashes elsewhere: they tell a restored store from a cut one."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and the form of the answer."""
    add_store_arguments(parser)
    add_data_folder(parser)
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 fine, 1 it cannot be read, 2 wrong usage."""
    return finished(_info(args))


async def _info(args: argparse.Namespace) -> int:
    import storage
    from sidecar.clock import Clock

    url = store_url(args)
    witness = witness_of(args, url, Clock().now_us)
    reader = await storage.open_reader(url)
    try:
        found = await _gathered(reader, url)
        found["witness"] = await _witness(reader, witness)
    finally:
        await reader.close()
    print(json.dumps(found) if args.json else "\n".join(_lines(found)))
    return 0


async def _gathered(reader: SqlReader, url: str) -> dict[str, Any]:
    from storage.marks import Marks
    from storage.retention import CareReader

    care = CareReader(reader)
    tenants = [await _tenant(reader, care, name) for name in await reader.tenants()]
    rows = {
        "chain_head": len(tenants),
        "receipts": sum(tenant["receipts"] for tenant in tenants),
        "call_facts": sum(tenant["call_facts"] for tenant in tenants),
        **await care.counts_of_small_tables(),
    }
    times = {
        "oldest_us": [tenant["oldest_us"] for tenant in tenants if tenant["oldest_us"]],
        "newest_us": [tenant["newest_us"] for tenant in tenants if tenant["newest_us"]],
    }
    return {
        **await _engine(care, url),
        "schema_version": await care.schema_version(),
        "closed": await Marks(reader).why_closed(),
        "rows": rows,
        "oldest_us": min(times["oldest_us"], default=None),
        "newest_us": max(times["newest_us"], default=None),
        "tenants": tenants,
    }


async def _witness(reader: SqlReader, witness: Witness | None) -> dict[str, Any] | None:
    """What the file of heads says, held against the store; None if its folder is not known."""
    from sidecar.ledger.witness import WitnessUnreadable

    if witness is None:
        return None
    said: dict[str, Any] = {"path": str(witness.path), "written_at_us": None, "lost": []}
    try:
        testimony = witness.read()
    except WitnessUnreadable:
        return said | {"state": "unreadable"}
    if testimony is None:
        return said | {"state": "missing"}
    lost = [str(one) for one in await reader.lost_heads(testimony.heads)]
    state = "lost" if lost else "stands"
    return said | {"state": state, "written_at_us": testimony.written_at_us, "lost": lost}


async def _engine(care: Any, url: str) -> dict[str, Any]:
    """Engine, version, sizes, and the advice that fits."""
    import sqlite3

    server = await care.server()
    if server is not None:
        version, size_bytes = server
        return {
            "engine": "postgres",
            "engine_version": version,
            "size_bytes": size_bytes,
            "wal_bytes": 0,
            "advice": _ADVICE_SERVER,
        }
    path = store_file(url, NAME)
    log = path.with_name(f"{path.name}-wal")
    return {
        "engine": "sqlite",
        "engine_version": sqlite3.sqlite_version,
        "size_bytes": path.stat().st_size,
        "wal_bytes": log.stat().st_size if log.exists() else 0,
        "advice": _ADVICE_FILE,
    }


async def _tenant(reader: SqlReader, care: Any, tenant_id: str) -> dict[str, Any]:
    signed = await _signed(reader, care, tenant_id)  # before the head, which only grows
    head, cut = await reader.head(tenant_id), await care.cut(tenant_id)
    oldest = await reader.receipts(tenant_id, cut.seq, 1)
    below = await care.count("receipts", tenant_id, 0, cut.seq)  # what an interrupted prune left
    above = await care.count("receipts", tenant_id, cut.seq, head.seq)
    is_cut_meanwhile = (await care.cut(tenant_id)).seq != cut.seq
    return {
        "tenant_id": tenant_id,
        "seq": head.seq,
        "head_hash": head.receipt_hash,
        "oldest_us": oldest[0].ts_us if oldest else None,
        "newest_us": head.ts_us if head.seq else None,
        "receipts": below + above,
        "call_facts": await care.count("call_facts", tenant_id, 0, head.seq),
        "missing": 0 if is_cut_meanwhile else head.seq - cut.seq - above,
        "cut_at": cut.seq,
        "archive": cut.archive or None,
        "archive_sha256": cut.archive_sha256 or None,
        "signed_at": signed,
    }


async def _signed(reader: SqlReader, care: Any, tenant_id: str) -> int | None:
    """How many receipts the newest signed head is of; None if none was signed."""
    from storage.tree import CHECKPOINTS_SINCE, TreeReader

    if await care.schema_version() < CHECKPOINTS_SINCE:
        return None
    latest = await TreeReader(reader).latest_checkpoint(tenant_id)
    return None if latest is None else latest.size


def _lines(found: dict[str, Any]) -> list[str]:
    log = f", write-ahead log {size_text(found['wal_bytes'])}" if found["wal_bytes"] else ""
    lines = [
        f"{found['engine']} {found['engine_version']}, schema {found['schema_version']}, "
        f"{size_text(found['size_bytes'])}{log}",
        "rows: " + ", ".join(f"{table} {count}" for table, count in found["rows"].items()),
    ]
    if found["closed"]:
        lines.insert(0, f"NOT IN USE: this store {found['closed']}; no sidecar starts on it")
    for tenant in found["tenants"]:
        lines.append(f"tenant {tenant['tenant_id']!a}: {_extent(tenant)}")
        if tenant["cut_at"]:
            lines.append(
                f"    receipts 1 to {tenant['cut_at']} are in archives, the last of them "
                f"{tenant['archive']} (sha256 {tenant['archive_sha256']})"
            )
        if tenant["missing"]:
            lines.append(
                f"    MISSING: {counted(tenant['missing'], 'receipt')} after "
                f"{tenant['cut_at']} {'is' if tenant['missing'] == 1 else 'are'} neither "
                "here nor in an archive; `receipts export` and `receipts verify` say from where on"
            )
        if (tenant["signed_at"] or 0) > tenant["seq"]:
            lines.append(
                f"    CUT: {counted(tenant['signed_at'], 'receipt was', 'receipts were')} signed"
            )
        elif tenant["signed_at"]:
            lines.append(
                f"    the newest signed head is of {counted(tenant['signed_at'], 'receipt')}"
            )
    if not found["tenants"]:
        lines.append("no receipts yet")
    return [*lines, *_lines_of_witness(found["witness"], bool(found["tenants"])), found["advice"]]


def _lines_of_witness(said: dict[str, Any] | None, has_receipts: bool) -> list[str]:
    if said is None:
        return ["heads kept outside of the store: name their folder with --data-dir"]
    where = f"heads kept outside of the store: {said['path']}"
    match said["state"]:
        case "stands":
            return [f"{where}, of {time_text(said['written_at_us'])}: all of them stand"]
        case "lost":
            return [f"{where}: ROLLED BACK", *(f"    {one}" for one in said["lost"])]
        case "unreadable":
            return [f"{where}: cannot be read, so that no sidecar starts on this store"]
        case _ if has_receipts:
            return [f"{where}: there is none, so that a rollback would not be seen"]
        case _:
            return []


def _extent(tenant: dict[str, Any]) -> str:
    if not tenant["seq"]:
        return "no receipts yet"
    return (
        f"up to receipt {tenant['seq']}, {tenant['receipts']} here, {tenant['call_facts']} with "
        f"facts; from {time_text(tenant['oldest_us'])} to {time_text(tenant['newest_us'])}; "
        f"head hash {tenant['head_hash']}"
    )
