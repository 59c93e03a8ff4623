"""The rooms the API speaks with, each by the little it needs of it.

Knows: that whatever is read comes by connections of the API's own; that whoever is asked to change
something is told which person wants it. A room that is None is one this sidecar does not keep.
Must not know: HTTP, how a room does what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from sidecar.control.api.problems import ApiProblem

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.control.api.backroom import Backroom
    from sidecar.control.state import ControlState
    from sidecar.model import Person, ToolCall
    from sidecar.policy.case_values import Request
    from sidecar.policy.index import PolicySet
    from sidecar.policy_files import Load, PolicyKeeper
    from storage.sql_store import SqlReader
    from storage.standing import AgentRow, ApprovalRow, KeyRow

T = TypeVar("T")

#: The call that a request described as {method, path, body} becomes.
RouteRequest = Callable[["PolicySet", Mapping[str, str], "Request", Mapping[str, Any]], "ToolCall"]


class Doorman(Protocol):
    """Who asks."""

    async def person(self, authorization: str | None, address: str) -> Person | None:
        """The person behind a header Authorization; None if there is nobody."""
        ...


class Registered(NamedTuple):
    """An agent with its new token, which is shown this once; `is_new` if there was none before."""

    row: AgentRow
    token: str
    is_new: bool


class AgentChanges(Protocol):
    """Changes of agents, each on record. All raise RoomRefused or a StoreError."""

    async def register(
        self, person: Person, agent_id: str, profile: Mapping[str, Any]
    ) -> Registered:
        """Makes an agent known, or gives one that is known another token."""
        ...

    async def move(self, person: Person, agent_id: str, verb: str, reason: str) -> AgentRow:
        """`verb` is freeze, unfreeze, quarantine, restore, revoke or delete."""
        ...

    async def rotate_token(self, person: Person, agent_id: str, reason: str) -> Registered:
        """Another token; the one before counts no more."""
        ...


class KeyChanges(Protocol):
    """Changes of the keys of people and services. All raise RoomRefused or a StoreError."""

    async def make(
        self,
        person: Person,
        name: str,
        roles: Sequence[str],
        groups: Sequence[str],
        expires_at_us: int,
    ) -> tuple[KeyRow, str]:
        """A new key, which is shown this once; `expires_at_us` 0 for one that does not end."""
        ...

    async def revoke(self, person: Person, key_id: str, reason: str) -> KeyRow:
        """The key counts no more."""
        ...


class ApprovalDesk(Protocol):
    """Where people vote on actions that wait. Raises RoomRefused or a StoreError."""

    async def vote(
        self, person: Person, approval_id: str, is_yes: bool, reason: str
    ) -> ApprovalRow:
        """A yes or a no; the approval as it stands then."""
        ...


class Checkpoints(Protocol):
    """Signed checkpoints of a tenant's tree, and proofs. All raise RoomRefused or a StoreError;
    what is not there is None."""

    async def latest(self, tenant: str) -> CheckpointNote | None:
        """The newest one."""
        ...

    async def before(self, tenant: str, size: int, limit: int) -> Sequence[CheckpointNote]:
        """Those of trees smaller than `size`, the largest first."""
        ...

    async def inclusion(self, tenant: str, seq: int, size: int) -> Sequence[str] | None:
        """The hashes, hex, that lead from receipt `seq` to the root of the tree of that size."""
        ...

    async def consistency(self, tenant: str, first: int, second: int) -> Sequence[str] | None:
        """The hashes, hex, that show the first tree to be the beginning of the second."""
        ...


class CheckpointNote(NamedTuple):
    """A signed note (C2SP) over the first `size` receipts."""

    size: int
    root: str
    at_us: int
    note: str


@dataclass(slots=True)
class Rooms:
    """All of them. `reader` has connections and a time limit of its own."""

    config: Config
    clock: Clock
    doorman: Doorman
    state: ControlState
    reader: SqlReader
    policies: PolicyKeeper
    load: Load
    route_request: RouteRequest
    backroom: Backroom
    agents: AgentChanges | None = None
    keys: KeyChanges | None = None
    approvals: ApprovalDesk | None = None
    checkpoints: Checkpoints | None = None


def kept(room: T | None, what: str) -> T:
    """The room; raises ApiProblem if this sidecar keeps none."""
    if room is None:
        raise ApiProblem("not_kept", f"this sidecar keeps no {what}")
    return room
