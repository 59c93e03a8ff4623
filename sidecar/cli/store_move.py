"""`aegis-sidecar store move`: the whole store to another engine, copied, compared and verified.

Knows: words and progress, and the order of holding: the target first, then a sidecar that works
on the source is fenced (with --fence), then the source is read; whatever fails in order lifts the
fence again. What is moved and how stands in storage.move.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from sidecar.cli.chosen_store import WrongUsage, finished
from sidecar.cli.control_client import Unreachable, add_connection_arguments
from sidecar.counted import counted

if TYPE_CHECKING:
    from sidecar.cli.store_fence_client import SidecarFence, Stand
    from sidecar.ledger.stored_chain import ChainReport
    from storage.move import Moved
    from storage.move_sides import Side
    from storage.sql_store import SqlReader

NAME = "move"
HELP = "carry the whole store to another engine, compared and verified"

#: A line of progress at most this often.
TELL_EVERY_S = 2.0
#: How long calls in flight may take to end when a sidecar is fenced, if not told otherwise.
FENCE_WAIT_S = 30.0

Leave = Callable[[Sequence[Any]], Awaitable[None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--from, --to, --fence and how to find the sidecar to be fenced."""
    parser.add_argument(
        "--from", dest="source", required=True, metavar="URL", help="store to leave"
    )
    parser.add_argument("--to", dest="target", required=True, metavar="URL", help="empty store")
    parser.add_argument(
        "--fence",
        action="store_true",
        help="if a sidecar works on the store to leave: have it refuse calls meanwhile",
    )
    parser.add_argument(
        "--fence-wait",
        type=float,
        default=FENCE_WAIT_S,
        metavar="SECONDS",
        help=f"how long its calls in flight may take to end (default: {FENCE_WAIT_S:g})",
    )
    add_connection_arguments(parser)
    parser.add_argument("--json", action="store_true", help="what was moved, as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 when everything stands in the target and verifies, 1 if not, 2 for wrong usage."""
    try:
        return finished(_move(args))
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code


async def _move(args: argparse.Namespace) -> int:
    import storage
    from sidecar.cli.store_fence_client import SidecarFence, socket_of
    from sidecar.clock import Clock

    now_us = Clock().now_us
    source_url, target_url = _absolute(args.source), _absolute(args.target)
    if source_url == target_url:
        raise WrongUsage("--from and --to name the same store")
    # What is no store is refused before a target is made for it.
    await (await storage.open_reader(source_url)).close()
    where = socket_of(args, source_url) if args.fence else None
    fence = SidecarFence(where) if where is not None else None
    if fence is None or not await asyncio.to_thread(fence.is_served):
        return await _move_alone(args, source_url, target_url, now_us)
    return await _move_fenced(args, source_url, target_url, now_us, fence)


async def _move_alone(
    args: argparse.Namespace, source_url: str, target_url: str, now_us: Callable[[], int]
) -> int:
    """Nobody works on the source; a fence that was left on it is accepted, and lifted if the move
    fails in order."""
    import storage
    from sidecar.cli.store_move_told import drop_fence
    from sidecar.config.store_url import shown_store
    from storage.errors import StoreHeld
    from storage.marks import Marks
    from storage.move import leave_source
    from storage.move_sides import MoveRefused

    shown = shown_store(target_url)
    try:
        source, source_store = await storage.open_side(
            source_url, shown_store(source_url), now_us=now_us, is_target=False
        )
    except StoreHeld as error:
        raise MoveRefused(f"{error}: stop it, or give --fence if it is a sidecar") from error
    try:
        marks = Marks(source_store)
        left = await marks.fence()
        if left is not None and left.target != shown:
            raise MoveRefused(
                f"{source.shown} is fenced for a move to {left.target}: go on with that one, or "
                "lift the fence with `aegis-sidecar store unfence`"
            )

        async def leave(heads: Sequence[Any]) -> None:
            await leave_source(source, shown, heads)

        target, target_store = await storage.open_side(
            target_url, shown, now_us=now_us, is_target=True
        )
        try:
            moved = await _carry(args, source, target, target_store, leave)
        except BaseException:
            if left is not None and await marks.moved_to() is None:
                await drop_fence(source_store, left)
            raise
        finally:
            await target_store.close()
    finally:
        await source_store.close()
    if not args.json:
        if not moved.was_done:
            print(f"{source.shown} is left as it was, marked.")
        print(f"Set `store:` to {shown} and start the sidecar.")
    return 0


async def _move_fenced(
    args: argparse.Namespace,
    source_url: str,
    target_url: str,
    now_us: Callable[[], int],
    fence: SidecarFence,
) -> int:
    """A sidecar works on the source. Whoever holds the target may fence: of two moves to one
    target the second does not get as far, and so does not lift the fence of the first."""
    import storage
    from sidecar.config.store_url import shown_store

    shown = shown_store(target_url)
    target, target_store = await storage.open_side(target_url, shown, now_us=now_us, is_target=True)
    try:
        try:
            stand = await asyncio.to_thread(fence.stand, shown, args.fence_wait)
        except asyncio.CancelledError:  # the request goes on without us
            await _lift(fence)
            raise

        async def leave(heads: Sequence[Any]) -> None:
            await asyncio.to_thread(fence.leave, stand.fence_id)

        try:
            source, source_reader = await storage.open_side(
                source_url,
                shown_store(source_url),
                now_us=now_us,
                is_target=False,
                fenced_node=stand.node_id,
            )
            try:
                await _check_it_is_this_store(source_reader, stand, shown, fence)
                await _carry(args, source, target, target_store, leave)
            finally:
                await source_reader.close()
        except BaseException:
            await _lift(fence)
            raise
    finally:
        await target_store.close()
    if not args.json:
        print(f"{source.shown} is left as it was, marked; its sidecar refuses calls.")
        print(f"Set `store:` to {shown} and restart the sidecar.")
    return 0


async def _lift(fence: SidecarFence) -> None:
    """After a failure: it is said what has become of the fence, the failure is what counts."""
    from sidecar.cli.store_move_told import FAILED
    from storage.move_sides import MoveRefused

    try:
        await asyncio.to_thread(fence.lift, FAILED)
    except MoveRefused as error:
        print(f"The fence stays: {error}. {error.next_step}", file=sys.stderr)
    else:
        print("The fence is lifted: the sidecar takes calls again.", file=sys.stderr)


async def _check_it_is_this_store(
    source: SqlReader, stand: Stand, shown: str, fence: SidecarFence
) -> None:
    """The mark of the very fence that stands is to be read in the source: whatever the paths and
    URLs say, this sidecar works on this store."""
    from storage.marks import Marks
    from storage.move_sides import MoveRefused

    marks = Marks(source)
    if stand.is_moved and await marks.moved_to() == shown:
        return
    mark = await marks.fence()
    if mark is None or mark.fence_id != stand.fence_id:
        raise MoveRefused(
            f"the sidecar at {fence.where} works on another store than the one to be moved"
        )


async def _carry(
    args: argparse.Namespace, source: Side, target: Side, target_store: SqlReader, leave: Leave
) -> Moved:
    """The move itself, and what is said of it."""
    from sidecar.cli.store_move_told import tell_of_move
    from sidecar.ledger.stored_chain import verify_chain
    from storage.errors import StoreCorrupt
    from storage.move import move

    reports: list[ChainReport] = []

    async def verify(reader: SqlReader, tenant_id: str) -> None:
        report = await verify_chain(reader, tenant_id)
        if report.fault is not None:
            raise StoreCorrupt(
                f"the chain of tenant {tenant_id!r} does not hold, in neither store: {report.fault}"
            )
        reports.append(report)

    teller = Teller()
    moved = await move(source, target, verify, teller, leave)
    await tell_of_move(source, target, target_store)
    tenants = len(reports) or len(await target_store.tenants())
    if args.json:
        facts = sum(report.facts for report in reports)
        said = {"receipts": moved.receipts, "facts": facts, "tenants": tenants}
        print(json.dumps(said | {"was_done": moved.was_done, "seconds": teller.seconds()}))
    elif moved.was_done:
        print(f"{source.shown} was moved to {target.shown} before; nothing is left to do")
    else:
        print(
            f"moved {counted(moved.receipts, 'receipt')} of "
            f"{counted(tenants, 'tenant')}; every chain verifies in "
            f"{target.shown}"
        )
    return moved


def _absolute(url: str) -> str:
    """A file by its whole path, so that a move goes on from any folder."""
    from storage import engine_of
    from storage.sqlite_file import path_of_url

    return f"sqlite:///{path_of_url(url)}" if engine_of(url) == "sqlite" else url


class Teller:
    """Progress on stderr, not too often, and how long each phase took."""

    def __init__(self) -> None:
        self._due_s = 0.0
        self._since_s = time.monotonic()
        self._seconds: dict[str, float] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now_s - self._since_s
        self._since_s = now_s
        if now_s >= self._due_s:
            self._due_s = now_s + TELL_EVERY_S
            print(f"{phase}: {done} of {total}", file=sys.stderr, flush=True)

    def seconds(self) -> dict[str, float]:
        """Seconds by phase."""
        return {phase: round(seconds, 3) for phase, seconds in self._seconds.items()}
