"""The beginning of a chain as an archive file: what must be safe before receipts may be deleted.

Knows: the form of a `receipts export`, and that a file is believed only after it was read back
from where it was written. Must not know: what is done with the receipts afterwards.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from sidecar.ledger.stored_chain import ChainFault, verified_stretches
from sidecar.ledger.verify import LINE_BYTES_MAX, verify_lines
from storage.retention import Cut
from storage.sql_store import SqlReader


async def write_archive(
    reader: SqlReader,
    tenant_id: str,
    start: Cut,
    until_seq: int,
    partial: Path,
    target: Path,
    *,
    with_facts: bool,
) -> Cut:
    """Writes the receipts after `start` up to `until_seq` to `partial`, durably, and reads them
    back; gives the cut that may be made once the file has the name `target`.

    Raises ChainFault if a receipt does not hold, in the store or in the file, OSError if the file
    cannot be written, and any StoreError of reading.
    """
    cut = start
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        stretches = verified_stretches(reader, tenant_id, start, until_seq, with_facts=with_facts)
        async for stretch in stretches:
            output.writelines(stretch.lines)
            cut = stretch.cut
        output.flush()
        os.fsync(output.fileno())
    return replace(cut, archive=str(target), archive_sha256=_read_back(partial, start, cut))


def _read_back(path: Path, start: Cut, cut: Cut) -> str:
    """Verifies the file as an auditor would; gives its SHA-256. Raises ChainFault."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:

        def lines() -> bytes:
            line = handle.readline(LINE_BYTES_MAX + 2)
            digest.update(line)
            return line

        verdict = verify_lines(iter(lines, b""), first_seq=start.seq + 1)
    if verdict.fault is not None:
        raise ChainFault(f"line {verdict.fault.line}: {verdict.fault.what}", verdict.last_seq)
    found = (verdict.last_seq, verdict.head_hash, verdict.prev_hash)
    if found != (cut.seq, cut.receipt_hash, start.receipt_hash):
        raise ChainFault("the archive is not what was written to it", verdict.last_seq)
    return digest.hexdigest()
