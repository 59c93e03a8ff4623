"""What arguments of pinned tools are held against: made of the pinned definitions, once for each.

Knows: that a check belongs to a definition's hash, whosever tool it is; how many are kept; which
tools cannot be checked, or not wholly, which is said once and counted.
Must not know: what a schema is, when a pin changes, calls.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.tool_schemas.check import Check, Unchecked, checked

if TYPE_CHECKING:
    from storage.standing import PinMark, PinRow

_log = logging.getLogger("aegis.pins")

AnyCheck = Check | Unchecked

#: Checks that are kept, and the length of the schemas they were made of; each is some 15 times its
#: schema. What was made first is forgotten first, and made again when it is needed.
CHECKS_MAX: Final = 1024
LENGTH_MAX: Final = 2 * 1024 * 1024


class ReadsPin(Protocol):
    """What is needed of a store."""

    async def tool_pin(self, tenant_id: str, upstream: str, tool: str) -> PinRow | None:
        """A pin with its definition."""
        ...


class PinChecks:
    """One for a sidecar. Checks are made in a thread; all else is done on the event loop's."""

    def __init__(self, store: ReadsPin) -> None:
        self._store = store
        self._kept: dict[str, AnyCheck] = {}
        self._length = 0
        self._unchecked: dict[str, set[tuple[str, str]]] = {}
        #: Calls whose arguments did not fit, by upstream.
        self.misfits_total: dict[str, int] = {}

    def unchecked_by_upstream(self) -> dict[str, int]:
        """How many tools cannot be checked, or not wholly, as far as they were called."""
        return {upstream: len(tools) for upstream, tools in self._unchecked.items()}

    def did_not_fit(self, upstream: str) -> None:
        """Counts a call."""
        self.misfits_total[upstream] = self.misfits_total.get(upstream, 0) + 1

    async def of(self, tenant: str, upstream: str, mark: PinMark) -> AnyCheck | None:
        """The check of a pinned definition; None if the store has another by now. Raises
        StoreError."""
        check = self._kept.get(mark.sha256)
        if check is None:
            row = await self._store.tool_pin(tenant, upstream, mark.tool)
            if row is None or row.sha256 != mark.sha256:
                return None
            check = await asyncio.to_thread(checked, row.definition)
            self._keep(mark.sha256, check)
        self._tell(tenant, upstream, mark.tool, check)
        return check

    def _keep(self, sha256: str, check: AnyCheck) -> None:
        self._kept.pop(sha256, None)
        self._kept[sha256] = check
        self._length = sum(one.length for one in self._kept.values())
        while len(self._kept) > CHECKS_MAX or self._length > LENGTH_MAX:
            oldest = next(iter(self._kept))
            self._length -= self._kept.pop(oldest).length

    def _tell(self, tenant: str, upstream: str, tool: str, check: AnyCheck) -> None:
        """Says of a tool that cannot be checked, once while it stays so."""
        tools = self._unchecked.setdefault(upstream, set())
        if not check.left_out:
            tools.discard((tenant, tool))
        elif (tenant, tool) not in tools:
            tools.add((tenant, tool))
            _log.warning(
                "the inputSchema of an MCP tool cannot be checked, or not wholly",
                extra={"tool": f"{upstream}/{tool}", "reason": check.left_out},
            )
