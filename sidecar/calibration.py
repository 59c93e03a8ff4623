"""Measures at start what the store can do on this disk, in a scratch file beside it.

Knows: what a typical call writes, and where a scratch store may live. A disk that is full or
read-only is no reason not to measure nothing: the running batches will tell.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from storage.calibrate import Calibration, calibrate
from storage.errors import StoreError
from storage.records import CallFactsRow, Entry, OpenIntentRow

_log = logging.getLogger("aegis.store")

_TENANT = "calibration"
_HASH = "0123456789abcdef" * 4
_ARGUMENTS = '{"number":7,"owner":"acme","title":"' + "x" * 200 + '"}'
_FACTS = '{"matches":[["policy/rule","allow","enforce",null]],"method":"POST","path":"/a/b/c"}'


async def measure_store(folder: Path, clock: Clock) -> Calibration:
    """Points and hand-over cost for `storage.pressure.Pressure`; empty if it cannot be measured."""
    scratch = folder / f".calibration-{os.getpid()}.db"
    try:
        store = await storage.open_store(f"sqlite:///{scratch}", now_us=clock.now_us)
        try:
            return await calibrate(store, seal, lambda: ordinary_call(clock), clock.monotonic_ns)
        finally:
            await store.close()
    except StoreError as error:
        _log.warning("the store could not be calibrated", extra={"code": error.code})
        return Calibration((), 0.0)
    finally:
        _remove(scratch)


def _remove(scratch: Path) -> None:
    """The scratch store and the files the engine puts beside it."""
    for path in scratch.parent.glob(f"{scratch.name}*"):
        path.unlink(missing_ok=True)


def ordinary_call(clock: Clock) -> tuple[Entry, Entry]:
    """The intent and the outcome of a call of ordinary size."""
    call_id = clock.new_id()
    intent = blank_receipt(
        _TENANT, "intent", event_id=call_id, call_id=call_id, ts_us=clock.now_us(), agent_id="agent"
    )._replace(
        upstream="upstream",
        tool="upstream/operation",
        action="tools/call",
        source_trust="trusted_internal_unsigned",
        decision="allow",
        mode="enforce",
        rule_id="policy/rule",
        rule_hash=_HASH[:32],
        policy_revision=_HASH[:32],
        request_sha256=_HASH,
        args_commitment=_HASH,
    )
    outcome = blank_receipt(
        _TENANT,
        "outcome",
        event_id=clock.new_id(),
        call_id=call_id,
        ts_us=clock.now_us(),
        agent_id="agent",
        outcome="completed",
        http_status=200,
    )
    return (
        Entry(
            intent,
            CallFactsRow(_TENANT, 0, _HASH[:32], _ARGUMENTS, _FACTS),
            OpenIntentRow(_TENANT, call_id, "node", "boot"),
        ),
        Entry(outcome, closes=call_id),
    )
