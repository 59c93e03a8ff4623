"""Shows and changes agents and keys for whoever runs this sidecar, in plain values.

Knows: how an agent or a key is told of; that what an operator leaves open (the tenant) must be the
only one. The secret of what is made stands in the one answer that tells of it.
Must not know: HTTP, the command line, how a change is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.control.containment_care import ContainmentCare, Reads
from sidecar.identity.agent_states import Move
from sidecar.identity.changes import KEY_ACTIVE, ChangeRefused
from sidecar.identity.profiles import AgentProfile, KeyProfile, key_profile
from sidecar.model import RiskLevel, Role, TrustLevel
from storage.errors import StoreError
from storage.protocol import RegistryReader

if TYPE_CHECKING:
    from sidecar.config.model import Config
    from sidecar.identity.callers import Callers
    from sidecar.identity.changes import AgentChanged
    from sidecar.identity.registry import TenantView
    from sidecar.model import Principal
    from storage.standing import KeyRow

#: Changes that are shown with an agent, the last ones first.
CHANGES_SHOWN: Final = 10
DAY_US: Final = 86_400_000_000
_NEWEST: Final = 2**62

Asked = Mapping[str, Any]


class CallerStore(RegistryReader, Reads, Protocol):
    """What is needed of a store."""


class CallerCare:
    """For the tenants of one sidecar's configuration."""

    def __init__(self, config: Config, callers: Callers, store: CallerStore) -> None:
        self._config = config
        #: Whose numbers are published.
        self.counts = callers
        self._registry = callers.registry
        self._changes = callers.changes
        #: What holds their calls.
        self.containments = ContainmentCare(tuple(config.tenants), callers.containing, store)
        self._store = store

    # -- agents ------------------------------------------------------------------------------

    async def agents(self, asked: Asked) -> dict[str, Any]:
        """All agents, of one tenant if it is named. Raises ChangeRefused."""
        views = await self._views(asked)
        return {
            "agents": [
                self._told(view, agent)
                for view in views
                for agent in sorted(view.agents.values(), key=lambda one: one.agent)
            ]
        }

    async def agent(self, asked: Asked) -> dict[str, Any]:
        """One agent, with what was last done to it. Raises ChangeRefused."""
        tenant, name = self._tenant(asked), _text(asked, "agent")
        (view,) = await self._views({"tenant": tenant})
        found = view.agents.get(name)
        if found is None:
            raise ChangeRefused(
                "unknown_agent", f"{tenant} has no agent {name!r}", "`agents list` shows them."
            )
        try:
            events = await self._store.audit_events(
                tenant, _NEWEST, CHANGES_SHOWN, subject=f"agent:{name}"
            )
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        changes = [
            {
                "at_us": one.at_us,
                "actor": one.actor,
                "action": one.action,
                "reason": one.reason,
                "seq": one.seq,
            }
            for one in events
        ]
        return self._told(view, found) | {"changes": changes}

    async def register(self, asked: Asked, actor: str) -> dict[str, Any]:
        """A new agent and its token. Raises ChangeRefused."""
        profile = AgentProfile(
            team=_text(asked, "team"),
            environment=_text(asked, "environment"),
            risk=RiskLevel[_choice(asked, "risk", [one.label for one in RiskLevel], "medium")],
            trust=TrustLevel[
                _choice(
                    asked, "trust", [one.label for one in TrustLevel], "trusted_internal_unsigned"
                )
            ],
        )
        done = await self._changes.register_agent(
            self._tenant(asked),
            _text(asked, "agent"),
            profile,
            actor=actor,
            reason=_text(asked, "reason"),
        )
        return self._changed(done)

    async def move(self, asked: Asked, actor: str) -> dict[str, Any]:
        """An agent that stands otherwise. Raises ChangeRefused."""
        move = Move(_choice(asked, "move", [one.value for one in Move], "").lower())
        done = await self._changes.move(
            self._tenant(asked),
            _text(asked, "agent"),
            move,
            actor=actor,
            reason=_text(asked, "reason"),
        )
        return self._changed(done)

    async def rotate_token(self, asked: Asked, actor: str) -> dict[str, Any]:
        """A new token of an agent. Raises ChangeRefused."""
        done = await self._changes.rotate_token(
            self._tenant(asked),
            _text(asked, "agent"),
            actor=actor,
            reason=_text(asked, "reason"),
        )
        return self._changed(done)

    # -- keys --------------------------------------------------------------------------------

    async def keys(self, asked: Asked) -> dict[str, Any]:
        """All keys that the store keeps, of one tenant if it is named. Raises ChangeRefused."""
        views = await self._views(asked)
        rows = [row for view in views for row in view.keys.values()]
        return {"keys": [_told_key(row) for row in sorted(rows, key=lambda row: row.key_id)]}

    async def open_keys(self, tenant: str) -> list[KeyRow]:
        """The keys that the store keeps of a tenant and that open something now. Raises
        StoreError."""
        await self._registry.renew(tenant)
        view = self._registry.view(tenant)
        rows = () if view is None else view.keys.values()
        return [
            row for row in rows if row.state == KEY_ACTIVE and not self._registry.has_ended(row)
        ]

    async def make_key(self, asked: Asked, actor: str) -> dict[str, Any]:
        """A new key. Raises ChangeRefused."""
        roles, groups, days = asked.get("roles"), asked.get("groups", []), asked.get("days")
        if not isinstance(roles, list) or not isinstance(groups, list):
            raise ChangeRefused("malformed_request", "`roles` and `groups` are lists")
        known = [one.value for one in Role]
        if not all(isinstance(one, str) for one in (*roles, *groups)) or set(roles) - set(known):
            raise ChangeRefused("bad_key", f"roles are: {', '.join(known)}")
        if days is not None and (type(days) is not int or not 1 <= days <= 3650):
            raise ChangeRefused("bad_key", "a key lasts 1 to 3650 days")
        profile = KeyProfile(
            _text(asked, "name"), frozenset(Role(one) for one in roles), frozenset(groups)
        )
        tenant, expires_at_us = self._tenant(asked), 0
        if days is not None:
            expires_at_us = await self._changes.store_now_us() + days * DAY_US
        done = await self._changes.make_key(
            tenant,
            profile,
            actor=actor,
            expires_at_us=expires_at_us,
            reason=_text(asked, "reason"),
        )
        return {"key_id": done.key_id, "key": done.key, "seq": done.seq, "name": profile.name}

    async def revoke_key(self, asked: Asked, actor: str) -> dict[str, Any]:
        """A key that opens nothing any more. Raises ChangeRefused."""
        done = await self._changes.revoke_key(
            self._tenant(asked), _text(asked, "key_id"), actor=actor, reason=_text(asked, "reason")
        )
        return {"key_id": done.key_id, "state": done.state, "seq": done.seq}

    # -- told --------------------------------------------------------------------------------

    def _changed(self, done: AgentChanged) -> dict[str, Any]:
        view = self._registry.view(done.agent.tenant)
        told = {} if view is None else self._told(view, done.agent)
        told["seq"] = done.seq
        if done.token is not None:
            told["token"] = done.token
        return told

    def _told(self, view: TenantView, agent: Principal) -> dict[str, Any]:
        name = agent.agent
        configured = self._config.tenants[view.tenant].agents.get(name)
        ways = []
        if configured is not None:
            ways = [way for way in ("token", "mtls", "jwt") if getattr(configured, way)]
        row = view.rows.get(name)
        if row is not None and row.token_sha256 and "token" not in ways:
            ways.insert(0, "token")
        if self._config.default_agent == (view.tenant, name):
            ways.append("without")
        return {
            "tenant": view.tenant,
            "agent": name,
            "state": agent.state.value,
            "team": agent.team,
            "environment": agent.environment,
            "risk": agent.risk.label,
            "trust": agent.trust.label,
            "credentials": ways,
            "source": "registered" if configured is None else "sidecar.yaml",
            "changed_us": row.changed_at_us if row is not None else None,
        }

    async def _views(self, asked: Asked) -> list[TenantView]:
        named = _text(asked, "tenant")
        tenants = [self._tenant(asked)] if named else list(self._config.tenants)
        try:
            for tenant in tenants:
                await self._registry.renew(tenant)
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        return [view for view in self._registry.views() if view.tenant in tenants]

    def _tenant(self, asked: Asked) -> str:
        named, tenants = _text(asked, "tenant"), self._config.tenants
        if named and named not in tenants:
            raise ChangeRefused(
                "unknown_tenant", f"there is no tenant {named!r}", "Tenants stand in sidecar.yaml."
            )
        if not named and len(tenants) != 1:
            raise ChangeRefused(
                "ambiguous_tenant",
                f"there are several tenants: {', '.join(tenants)}",
                "Name one with --tenant.",
            )
        return named or next(iter(tenants))


def _told_key(row: KeyRow) -> dict[str, Any]:
    profile = key_profile(row)
    return {
        "tenant": row.tenant_id,
        "key_id": row.key_id,
        "state": row.state,
        "name": profile.name if profile else "",
        "roles": sorted(profile.roles) if profile else [],
        "groups": sorted(profile.groups) if profile else [],
        "expires_us": row.expires_at_us or None,
        "changed_us": row.changed_at_us,
    }


def _text(asked: Asked, name: str) -> str:
    value = asked.get(name)
    return value if isinstance(value, str) else ""


def _choice(asked: Asked, name: str, known: list[str], usual: str) -> str:
    """One of a few words, in capitals as enumerations name them."""
    value = asked.get(name) or usual
    if value not in known:
        raise ChangeRefused("malformed_request", f"`{name}` is one of {', '.join(known)}")
    return str(value).upper()
