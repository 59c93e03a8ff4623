"""Requests of MCP servers over HTTP that their agents have and may answer, each once.

Knows: that an answer to what was never asked in the same session would be a way to tell the server
anything; that of too many the oldest are forgotten, and an answer to these is refused. Whoever is
asked ever so much harms the questions of its own tenant and upstream alone.
Must not know: streams, HTTP, policies; pipes, where each session keeps its own. It is this
process's own: a restart forgets.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sidecar.model import Principal
from sidecar.proxy.dialects.mcp_message import ID_LENGTH_MAX

#: Of one tenant and upstream; as many as of a pipe.
ASKED_MAX: Final = 4096
#: A number that takes as much room as the longest text.
_ID_BITS_MAX: Final = 8 * ID_LENGTH_MAX


class AskedId(NamedTuple):
    """Who was asked, in which session (the server's own id, "" without one), under which id: 1 and
    "1" are two."""

    tenant: str
    upstream: str
    agent: str
    session: str
    kind: type
    asks: str | int


class AskedIds:
    """One for a sidecar."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], dict[AskedId, None]] = {}

    def note(self, principal: Principal, upstream: str, session: str, asks: str | int) -> None:
        """The agent is about to get this request. Nobody can answer under an id that is too long
        for one, so none is kept."""
        size = len(asks) if isinstance(asks, str) else asks.bit_length()
        if size > (ID_LENGTH_MAX if isinstance(asks, str) else _ID_BITS_MAX):
            return
        self.give_back(_asked(principal, upstream, session, asks))

    def take(
        self, principal: Principal, upstream: str, session: str, answers: str | int | None
    ) -> AskedId | None:
        """The request that this answers, which is then none any more; None if there is none."""
        if answers is None:
            return None
        one = _asked(principal, upstream, session, answers)
        found = self._open.get((one.tenant, one.upstream), {})
        return one if found.pop(one, one) is None else None

    def give_back(self, one: AskedId) -> None:
        """It may be answered: for the first time, or since its answer did not go to the server."""
        of_both = self._open.setdefault((one.tenant, one.upstream), {})
        of_both[one] = None
        if len(of_both) > ASKED_MAX:
            del of_both[next(iter(of_both))]


def _asked(principal: Principal, upstream: str, session: str, asks: str | int) -> AskedId:
    return AskedId(principal.tenant, upstream, principal.agent, session, type(asks), asks)
