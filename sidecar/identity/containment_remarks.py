"""What is odd about a containment that was begun all the same: nothing known here is called so.

Knows: that a tool need not be declared to be called, so that a name which fits none is no reason to
refuse an emergency stop, but one to say so at once; that where an MCP server's list was seen its
tools are known by name; that calls of the protocol have names of their own.
Must not know: who contains what, HTTP, the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.policy.matchers import MCP_PREFIX, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.config.model import Upstream
    from sidecar.policy.catalogue import Catalogue
    from storage.standing import PinMark

#: How alike a name has to be that may have been meant.
_NEARLY: Final = 0.6


class ReadsMarks(Protocol):
    """What is needed of a store."""

    async def tool_marks(self, tenant_id: str, upstream: str) -> Sequence[PinMark]:
        """What the tools of an MCP server are pinned to."""
        ...


class KnownTools:
    """The tools there are names of: the catalogue's, and those that servers have listed."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        catalogue: Callable[[], Catalogue],
        store: ReadsMarks,
    ) -> None:
        self._upstreams = upstreams
        self._catalogue = catalogue
        self._store = store

    async def remark(self, tenant: str, tool: str) -> str:
        """Why no call may ever be of this tool (UPSTREAM/OPERATION); "" if it is known. Raises a
        StoreError."""
        upstream, _, operation = tool.partition("/")
        declared = {one.name for one in self._catalogue().tools}
        if upstream not in self._upstreams:
            return remark_on(tool, declared, f"no upstream here is called {upstream}")
        is_mcp = self._upstreams[upstream].kind == "mcp"
        if tool in declared or operation == UNKNOWN:
            return ""
        if not is_mcp:
            return remark_on(tool, declared, f"no catalogue declares {tool}")
        if operation.startswith(MCP_PREFIX):
            return ""
        marks = await self._store.tool_marks(tenant, upstream)
        listed = {f"{upstream}/{mark.tool}" for mark in marks}
        if tool in listed:
            return ""
        why = f"no catalogue declares {tool}, nor has its server listed it"
        return remark_on(tool, declared | listed, why)


def remark_on(tool: str, known: Collection[str], why: str) -> str:
    """What is said of a name that nothing is known by, with the one that may have been meant."""
    near = difflib.get_close_matches(tool, known, n=1, cutoff=_NEARLY)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{why}, so that this may hold no call at all{meant}"
