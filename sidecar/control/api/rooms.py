"""The rooms the API speaks with.

Knows: that whatever is read comes by connections of the API's own; that whoever is asked to change
something is told which person wants it. A room that is None is one this sidecar does not keep.
Must not know: HTTP, how a room does what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sidecar.control.api.problems import ApiProblem

if TYPE_CHECKING:
    from sidecar.approvals.service import Approvals
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.control.api.backroom import Backroom
    from sidecar.control.api.reading import Reading
    from sidecar.control.state import ControlState
    from sidecar.identity.changes import Changes
    from sidecar.identity.containing import Containing
    from sidecar.model import Person, ToolCall
    from sidecar.policy.case_values import Request
    from sidecar.policy.index import PolicySet
    from sidecar.policy_files import Load, PolicyKeeper
    from storage.sql_store import SqlReader

T = TypeVar("T")

#: The call that a request described as {method, path, body} becomes.
RouteRequest = Callable[["PolicySet", Mapping[str, str], "Request", Mapping[str, Any]], "ToolCall"]


class Doorman(Protocol):
    """Who asks."""

    async def person(self, authorization: str | None, address: str) -> Person | None:
        """The person behind a header Authorization; None if there is nobody."""
        ...


@dataclass(slots=True)
class Rooms:
    """All of them. `reader` has connections and a time limit of its own, and `reading` gives each
    person his turn at them; `changes` makes those of
    agents and keys, `containing` those of containments; `document` gives what is said of the
    API to programs."""

    config: Config
    clock: Clock
    doorman: Doorman
    changes: Changes
    containing: Containing
    approvals: Approvals
    state: ControlState
    reader: SqlReader
    reading: Reading
    policies: PolicyKeeper
    load: Load
    route_request: RouteRequest
    backroom: Backroom
    document: Callable[[], bytes]

    def of(self, person: Person) -> Rooms:
        """The same for what this person asks for."""
        return replace(self, reader=self.reading.of(person))


def kept(room: T | None, what: str) -> T:
    """The room; raises ApiProblem if this sidecar keeps none."""
    if room is None:
        raise ApiProblem("not_kept", f"this sidecar keeps no {what}")
    return room
