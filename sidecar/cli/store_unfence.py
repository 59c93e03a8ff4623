"""`aegis-sidecar store unfence`: lifts a fence that a move left behind.

Knows: that a running sidecar lifts its own, and that the mark in the store of one that is stopped
is taken away here, and told in every chain of it. A store that was moved for good stays closed.
"""

from __future__ import annotations

import argparse
import sys

from sidecar.cli.chosen_store import finished
from sidecar.cli.control_client import Unreachable, add_connection_arguments, load_configuration

NAME = "unfence"
HELP = "lift the fence that a `store move` left behind"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the sidecar runs, or its store."""
    add_connection_arguments(parser)
    parser.add_argument("--store", help="store URL, instead of the configuration's")
    parser.add_argument("--reason", default="", help="why; it stays on record")


def run(args: argparse.Namespace) -> int:
    """0 when no fence stands any more, 1 if it stays, 2 for wrong usage."""
    try:
        return finished(_unfence(args), writes=True)
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code


async def _unfence(args: argparse.Namespace) -> int:
    from sidecar.cli.store_fence_client import SidecarFence, socket_of

    url = args.store
    if url is None and not args.data_dir:
        config = load_configuration(args)
        url, args.data_dir = config.store, config.data_dir
    where = socket_of(args, url or "")
    if where is not None and (fence := SidecarFence(where)).is_served():
        if fence.lift(args.reason):
            print("the fence is lifted; calls go ahead")
            return 0
        if url is None:
            print("no fence stands here")
            return 0
    if url is None:
        print(f"no sidecar answers at {where}: name its store with --store", file=sys.stderr)
        return 2
    return await _unmark(url, args.reason)


async def _unmark(url: str, reason: str) -> int:
    """The mark of a sidecar that is stopped, or of another node of a server."""
    import storage
    from sidecar.clock import Clock
    from sidecar.config.store_url import shown_store
    from sidecar.ledger.chain import seal
    from sidecar.ledger.store_entries import unfenced
    from sidecar.local_users import command_actor
    from storage.marks import Marks, Told

    reader = await storage.open_reader(url)
    try:
        mark = await Marks(reader).fence()
    finally:
        await reader.close()
    if mark is None:
        print(f"no fence stands on {shown_store(url)}")
        return 0
    clock, actor = Clock(), command_actor()
    store = await storage.open_marks(url, now_us=clock.now_us)
    try:
        tenants = await store.tenants()
        entries = [unfenced(clock, tenant, actor, mark, reason) for tenant in tenants]
        await Marks(store).drop_fence(Told(entries, seal))
    finally:
        await store.close()
    print(f"the fence of {mark.node_id} on {shown_store(url)} is lifted; its sidecar may start")
    return 0
