"""Changes of agents and keys, as the control API asks for them: by a person of one tenant.

Knows: that a person acts in their own tenant alone, under the name that records give them; that
registering an agent that is there gives it another token and changes nothing else of it.
Must not know: HTTP, how a change is made, which roles may ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sidecar.control.api.problems import RoomRefused
from sidecar.control.api.rooms import Registered
from sidecar.identity.agent_states import Move
from sidecar.identity.changes import ChangeRefused
from sidecar.identity.profiles import AgentProfile, KeyProfile
from sidecar.model import RiskLevel, Role, TrustLevel
from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.identity.changes import Changes
    from sidecar.model import Person
    from storage.standing import AgentRow, KeyRow

#: HTTP statuses of refusals that are no conflict.
_STATUSES: Final = {
    "unknown_tenant": 404, "unknown_agent": 404, "unknown_key": 404, "bad_name": 422,
    "bad_reason": 422, "bad_key": 422, "store_fenced": 503,
}  # fmt: skip


class CallerDesk:
    """`AgentChanges` and `KeyChanges` of the API, over the changes of one sidecar."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def register(
        self, person: Person, agent_id: str, profile: Mapping[str, Any]
    ) -> Registered:
        """A new agent, or another token for one that is there. Raises RoomRefused, StoreError."""
        usual = AgentProfile()
        wanted = AgentProfile(
            team=str(profile.get("team", usual.team)),
            environment=str(profile.get("environment", usual.environment)),
            risk=RiskLevel[str(profile.get("risk", usual.risk.label)).upper()],
            trust=TrustLevel[str(profile.get("trust", usual.trust.label)).upper()],
        )
        with _told():
            try:
                made = await self._changes.register_agent(
                    person.tenant, agent_id, wanted, actor=person.actor
                )
            except ChangeRefused as refused:
                if refused.code != "agent_exists":
                    raise
            else:
                return Registered(made.row, made.token or "", True)
        return await self.rotate_token(person, agent_id, "registered again")

    async def move(self, person: Person, agent_id: str, verb: str, reason: str) -> AgentRow:
        """An agent that stands otherwise. Raises RoomRefused, StoreError."""
        with _told():
            made = await self._changes.move(
                person.tenant, agent_id, Move(verb), actor=person.actor, reason=reason
            )
        return made.row

    async def rotate_token(self, person: Person, agent_id: str, reason: str) -> Registered:
        """Another token. Raises RoomRefused, StoreError."""
        with _told():
            made = await self._changes.rotate_token(
                person.tenant, agent_id, actor=person.actor, reason=reason
            )
        return Registered(made.row, made.token or "", False)

    async def make(
        self,
        person: Person,
        name: str,
        roles: Sequence[str],
        groups: Sequence[str],
        expires_at_us: int,
    ) -> tuple[KeyRow, str]:
        """A new key. Raises RoomRefused, StoreError."""
        profile = KeyProfile(name, frozenset(Role(role) for role in roles), frozenset(groups))
        with _told():
            made = await self._changes.make_key(
                person.tenant, profile, actor=person.actor, expires_at_us=expires_at_us
            )
        return made.row, made.key or ""

    async def revoke(self, person: Person, key_id: str, reason: str) -> KeyRow:
        """A key that opens nothing any more. Raises RoomRefused, StoreError."""
        with _told():
            made = await self._changes.revoke_key(
                person.tenant, key_id, actor=person.actor, reason=reason
            )
        return made.row


@contextmanager
def _told() -> Iterator[None]:
    """What a change is refused with, as the API tells it."""
    try:
        yield
    except ChangeRefused as refused:
        if isinstance(refused.__cause__, StoreError):
            raise refused.__cause__ from None
        status = _STATUSES.get(refused.code, 409)
        raise RoomRefused(refused.code, refused.title, refused.next_step, status) from refused
