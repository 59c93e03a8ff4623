"""What rows of agents and keys say, read strictly: how an agent stands, and what rules know of it.

Knows: the JSON of a row's profile. A row that cannot be read lets nobody in: its agent is
quarantined, its key is none.
Must not know: the store, credentials as they are presented.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.model import AgentState, Principal, RiskLevel, Role, TrustLevel

if TYPE_CHECKING:
    from sidecar.config.model import Agent
    from storage.standing import AgentRow, KeyRow


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """What rules may know of an agent that was registered."""

    team: str = ""
    environment: str = ""
    risk: RiskLevel = RiskLevel.MEDIUM
    trust: TrustLevel = TrustLevel.TRUSTED_INTERNAL_UNSIGNED

    def text(self) -> str:
        """As a row keeps it."""
        said = {
            "team": self.team,
            "environment": self.environment,
            "risk": self.risk.label,
            "trust": self.trust.label,
        }
        return json.dumps(said, sort_keys=True)


@dataclass(frozen=True, slots=True)
class KeyProfile:
    """Whose a key is: a person's or a service's name, and what it may do."""

    name: str
    roles: frozenset[Role]
    groups: frozenset[str] = frozenset()

    def text(self) -> str:
        """As a row keeps it."""
        said = {"name": self.name, "roles": sorted(self.roles), "groups": sorted(self.groups)}
        return json.dumps(said, sort_keys=True)


def state_of(row: AgentRow) -> AgentState:
    """How the agent of a row stands."""
    try:
        state = AgentState(row.state)
    except ValueError:
        return AgentState.QUARANTINED
    if state is AgentState.ACTIVE and _agent_profile(row.profile) is None:
        return AgentState.QUARANTINED
    return state


def principal_of(
    tenant: str,
    name: str,
    configured: Agent | None,
    row: AgentRow | None,
    state: AgentState,
    epoch: int,
) -> Principal:
    """The caller that an agent is; what the configuration says of it goes over its row."""
    said: Agent | AgentProfile | None = configured
    if said is None and row is not None:
        said = _agent_profile(row.profile)
    if said is None:
        said = AgentProfile()
    return Principal(
        tenant=tenant,
        agent=name,
        team=said.team,
        environment=said.environment,
        risk=said.risk,
        trust=said.trust,
        state=state,
        epoch=epoch,
    )


def key_profile(row: KeyRow) -> KeyProfile | None:
    """Whose the key of a row is; None if that cannot be read."""
    said = _object(row.profile)
    try:
        return KeyProfile(
            str(said["name"]),
            frozenset(Role(one) for one in said["roles"]),
            frozenset(str(one) for one in said["groups"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _agent_profile(text: str) -> AgentProfile | None:
    said = _object(text)
    if not said:
        return AgentProfile() if text == "{}" else None
    try:
        return AgentProfile(
            team=str(said["team"]),
            environment=str(said["environment"]),
            risk=RiskLevel[str(said["risk"]).upper()],
            trust=TrustLevel[str(said["trust"]).upper()],
        )
    except (KeyError, ValueError):
        return None


def _object(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
