"""A sidecar with a fault built in, to prove that the fault run finds it. Never part of the product.

forward-before-commit        the upstream is called while the record still waits for the disk
acknowledge-before-commit    the writer says "recorded" before anything was written
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import sidecar.write_path
from sidecar.cli.main import main
from sidecar.proxy.judging import Judging
from sidecar.proxy.pipeline import Pipeline
from storage.calibrate import Calibration
from storage.records import Recorded
from storage.sql_store import SqlStore
from storage.write_queue import WriteQueue

#: How long the disk of these sidecars takes, so that a kill falls into the window.
SLOW_S = 0.05

_background: set[asyncio.Future[Any]] = set()


def later(work: Any) -> None:
    task = asyncio.ensure_future(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


def slow_disk() -> None:
    record = SqlStore.record

    async def slow(self: SqlStore, *arguments: Any) -> Any:
        await asyncio.sleep(SLOW_S)
        return await record(self, *arguments)

    SqlStore.record = slow  # type: ignore[method-assign]


def no_calibration() -> None:
    """It would take the planted faults for the disk's speed."""

    async def nothing(folder: Path, clock: Any) -> Calibration:
        return Calibration((), 0.0)

    sidecar.write_path.measure_store = nothing


def forward_before_commit() -> None:
    made, judge = Pipeline.__init__, Judging.intent
    legs: list[tuple[Any, Any]] = []

    def noted(self: Pipeline, **rooms: Any) -> None:
        made(self, **rooms)
        legs.append((rooms["leg"], rooms["config"].upstreams))

    async def early(self: Judging, visit: Any, policy_set: Any, principal: Any, call: Any) -> Any:
        if call.tool.operation == "do":
            leg, upstreams = legs[-1]
            upstream = upstreams[call.tool.upstream]
            later(leg.send(upstream, "POST", call.target, call.headers, call.body))
        return await judge(self, visit, policy_set, principal, call)

    Pipeline.__init__ = noted  # type: ignore[method-assign]
    Judging.intent = early  # type: ignore[method-assign]


def acknowledge_before_commit() -> None:
    submit = WriteQueue.submit_draft

    async def early(self: WriteQueue, tenant_id: str, draft: Any) -> Any:
        later(submit(self, tenant_id, draft))
        return Recorded(1, "00" * 32, time.time_ns() // 1000, 0)

    WriteQueue.submit_draft = early  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_disk()
    no_calibration()
    {
        "forward-before-commit": forward_before_commit,
        "acknowledge-before-commit": acknowledge_before_commit,
    }[sys.argv.pop(1)]()
    sys.exit(main(sys.argv[1:]))
