"""The store itself asked about pins, where no process answers: one that is stopped, or has ended.

Knows: which store that is, and that only one process may write to a file. Of several processes that
wrap one server each has pins of its own, in the folder of its store.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecar.control.tool_care import ToolCare
    from storage.records import Answer, Entry
    from storage.sql_store import SqlReader, SqlStore


def ask_store(args: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    """What the sidecar would say. Raises Unreachable, ToolCareRefused, StoreError."""
    import asyncio

    return asyncio.run(_said(_url(args), args.action, asked))


def _url(args: argparse.Namespace) -> str:
    """Raises Unreachable where it cannot be known, or is not there."""
    from sidecar.cli.control_client import Unreachable, load_configuration
    from sidecar.wrap.files import STORE_NAME

    if not args.data_dir:
        return str(load_configuration(args).store)
    path = Path(args.data_dir).absolute() / STORE_NAME
    if not path.exists():
        raise Unreachable(f"no sidecar answers in {path.parent}, and there is no {STORE_NAME}")
    return f"sqlite:///{path}"


async def _said(url: str, action: str, asked: dict[str, Any]) -> dict[str, Any]:
    import storage
    from sidecar.clock import Clock
    from sidecar.local_users import command_actor

    if action == "diff":
        reader = await storage.open_reader(url)
        try:
            care = await _care(reader, None)
            return await care.drifted(asked["upstream"], asked["tenant"])
        finally:
            await reader.close()
    store = await storage.open_store(url, now_us=Clock().now_us)
    try:
        care = await _care(store, store)
        if action == "forget":
            return await care.forget(
                asked["upstream"], asked["tools"], asked["tenant"], asked["reason"],
                actor=command_actor(), is_tried=asked["is_tried"],
            )  # fmt: skip
        tools = None if asked["tool"] is None else [asked["tool"]]
        return await care.accept(
            asked["upstream"], tools, asked["tenant"], asked["seen"], asked["reason"],
            actor=command_actor(),
        )  # fmt: skip
    finally:
        await store.close()


async def _care(reader: SqlReader, store: SqlStore | None) -> ToolCare:
    """The same care as the sidecar's, over what the store holds; it records at once."""
    from sidecar.clock import Clock
    from sidecar.control.tool_care import ToolCare
    from sidecar.ledger.fence import Fence
    from sidecar.ledger.pin_keeper import PinKeeper

    held = await reader.pinned_upstreams()
    pins = PinKeeper(reader, _AtOnce(store), Clock(), Fence(), is_alone=False)
    tenants = list(dict.fromkeys([*(tenant for tenant, _ in held), *await reader.tenants()]))
    return ToolCare(pins, tenants, list(dict.fromkeys(upstream for _, upstream in held)))


class _AtOnce:
    """Records one entry by itself; `store` is None where nothing is written."""

    def __init__(self, store: SqlStore | None) -> None:
        self._store = store

    async def submit(self, entry: Entry) -> Answer:
        from sidecar.ledger.chain import seal
        from storage.errors import StoreReadOnly

        if self._store is None:
            raise StoreReadOnly("opened for reading")
        return (await self._store.record([entry], seal))[0]
