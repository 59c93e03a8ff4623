"""Requests of MCP sessions whose answers are held to obligations, by the ids they are answered by.

Knows: that a client takes an answer by its id, on whatever stream of its session it comes: what is
masked in the reply to a call must not come in another one, which nothing obliges. That readers take
1, 1.0 and "1" for one id. Of too many the oldest are forgotten; a restart forgets all.
Must not know: messages, streams, what an answer is held to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sidecar.model import Principal

#: Sessions with such requests, and such requests of one session.
SESSIONS_MAX: Final = 1024
IDS_MAX: Final = 256

#: Tenant, agent, upstream, the server's own id of the session.
_Session = tuple[str, str, str, str]


class ObligedIds:
    """One for a sidecar."""

    def __init__(self) -> None:
        #: Mostly there are none.
        self.by_session: dict[_Session, dict[str, None]] = {}

    def note(self, principal: Principal, upstream: str, session: str, asked: str | int) -> None:
        """The answer to this request is held to obligations."""
        whole = (principal.tenant, principal.agent, upstream, session)
        ids = self.by_session.setdefault(whole, {})
        ids[_written(asked)] = None
        if len(ids) > IDS_MAX:
            del ids[next(iter(ids))]
        if len(self.by_session) > SESSIONS_MAX:
            del self.by_session[next(iter(self.by_session))]

    def forget(self, principal: Principal, upstream: str, session: str, asked: str | int) -> None:
        """Another request has this id now."""
        ids = self.by_session.get((principal.tenant, principal.agent, upstream, session))
        if ids is not None:
            ids.pop(_written(asked), None)

    def are_in(self, principal: Principal, upstream: str, session: str) -> bool:
        """Whether the session has any."""
        return bool(self.by_session.get((principal.tenant, principal.agent, upstream, session)))

    def answered(
        self,
        principal: Principal,
        upstream: str,
        session: str,
        answers: Iterable[Any],
        own: str | int | None,
    ) -> bool:
        """Whether one of the ids that are answered is that of such a request, and not `own`, the
        request in whose reply the answer comes."""
        ids = self.by_session.get((principal.tenant, principal.agent, upstream, session), {})
        return any(_written(one) in ids and _written(one) != _written(own) for one in answers)


def _written(one: Any) -> str:
    return str(int(one)) if isinstance(one, float) and one.is_integer() else str(one)
