"""Changes of agents and keys, each on record: registered, moved, a token or a key made or revoked.

Knows: that a change rests on the row it was worked out from and is worked out anew when that is
another by then; that a token or key is shown once, in what is given back, and kept as a hash; that
what was changed is known here before the answer is given.
Must not know: HTTP, the command line, who may do what.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.identity.agent_states import Move, after
from sidecar.identity.change_entry import Change, change_entry, shown_agent, shown_key
from sidecar.identity.profiles import AgentProfile, KeyProfile, key_profile
from sidecar.identity.tokens import made_key, made_token, sha256_of
from sidecar.model import RESERVED_AGENT_NAMES, AgentState, Principal
from storage.errors import CommitUnknown, QueueTimeout, StoreError
from storage.records import Recorded
from storage.standing import AgentRow, KeyRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.identity.registry import Registry, TenantView
    from sidecar.ledger.fence import Fence
    from sidecar.ledger.pin_keeper import Submits
    from storage.watch_rows import ContainmentRow, DeliveryRow

_log = logging.getLogger("aegis.identity")

#: What is said where a change may have been recorded.
LOOK_AGAIN: Final = (
    "Look as soon as the store answers (`agents show`, `keys list`, `containments list`), before "
    "you repeat it: what was made and not shown can be revoked or rotated."
)
#: Of one tenant. A name stays for good, since nothing revives it; of keys those count that open.
AGENTS_MAX: Final = 10_000
KEYS_MAX: Final = 1_000
AGENTS_FULL: Final = "Let agents that come and go share a name, and tell them apart as its runs."
KEYS_FULL: Final = "Revoke those that nobody uses (`keys list`), or give them an end."
REASON_CHARS_MAX: Final = 1024
#: How often a change is worked out anew because somebody else changed the same row.
TRIES_MAX: Final = 4

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
KEY_ACTIVE: Final = "active"
KEY_REVOKED: Final = "revoked"


class ChangeRefused(Exception):
    """Nothing was changed, or it is not known (`commit_unknown`, `queue_timeout`): `code` is
    stable, `next_step` says what to do."""

    def __init__(self, code: str, title: str, next_step: str = "") -> None:
        super().__init__(title)
        self.code = code
        self.title = title
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """An agent as it stands now. `seq` is the receipt's number, None where it stood so already.
    `token` is there only if one was made, and never again."""

    agent: Principal
    seq: int | None
    token: str | None = None

    def __repr__(self) -> str:
        return f"AgentChanged({self.agent!r}, {self.seq!r})"


@dataclass(frozen=True, slots=True)
class KeyChanged:
    """A key as it stands now. `key` is there only if it was made just now, and never again."""

    key_id: str
    profile: KeyProfile
    state: str
    expires_at_us: int
    seq: int
    key: str | None = None

    def __repr__(self) -> str:
        return f"KeyChanged({self.key_id!r}, {self.state!r}, {self.seq!r})"


class Planned(NamedTuple):
    """A change worked out from a tenant as it is known, and what comes of it. `also` stands or
    falls with it. With `epoch` it counts only while that is the tenant's."""

    action: str
    before: dict[str, Any] | None
    after: dict[str, Any]
    put: AgentRow | KeyRow | ContainmentRow
    also: tuple[AgentRow | DeliveryRow, ...] = ()
    epoch: int | None = None


class Changes:
    """For the tenants of one sidecar's configuration."""

    def __init__(
        self, config: Config, registry: Registry, queue: Submits, clock: Clock, fence: Fence
    ) -> None:
        self._tenants = config.tenants
        self._registry = registry
        self._queue = queue
        self._clock = clock
        self._fence = fence

    # -- agents ------------------------------------------------------------------------------

    async def register_agent(
        self, tenant: str, agent: str, profile: AgentProfile, *, actor: str, reason: str = ""
    ) -> AgentChanged:
        """A new agent with a token of its own. Raises ChangeRefused: unknown_tenant, bad_name,
        agent_exists (in whatever state: nothing is revived), too_many, and as `made` does."""
        _require_name(agent)
        if agent in RESERVED_AGENT_NAMES:
            raise ChangeRefused(
                "bad_name", f"the name {agent} is taken by the API itself", "Take another name."
            )
        token = made_token(self._clock, tenant, agent)

        def plan(view: TenantView) -> Planned:
            if agent in view.agents:
                raise ChangeRefused(
                    "agent_exists",
                    f"{tenant} has an agent {agent!r} already: {view.agents[agent].state}",
                    "Take another name; `agents rotate-token` gives this one a new token.",
                )
            if len(view.agents) >= AGENTS_MAX:
                title = f"{tenant} has {AGENTS_MAX} agents already, with those that were deleted"
                raise ChangeRefused("too_many", title, AGENTS_FULL)
            row = AgentRow(
                tenant,
                agent,
                1,
                AgentState.ACTIVE.value,
                profile.text(),
                sha256_of(token),
                self.now_us(),
            )
            return Planned("agent.register", None, shown_agent(row), row)

        seq = await self.made(tenant, f"agent:{agent}", plan, actor, reason)
        return AgentChanged(self._standing(tenant, agent), seq, token)

    async def move(
        self, tenant: str, agent: str, move: Move, *, actor: str, reason: str = ""
    ) -> AgentChanged:
        """An agent that stands otherwise. Raises ChangeRefused: unknown_tenant, unknown_agent,
        wrong_state (what is at its end stays there), and as `made` does."""

        def plan(view: TenantView) -> Planned | None:
            now = existing(view, agent)
            state = after(now.state, move)
            if state is None:
                if now.state is after(_origin(move), move):
                    return None
                raise ChangeRefused(
                    "wrong_state",
                    f"{tenant}/{agent} is {now.state}, and such an agent is not to be moved by "
                    f"{move}",
                    way_on(now.state),
                )
            row = row_of(view, now)
            put = row._replace(
                version=row.version + 1, state=state.value, changed_at_us=self.now_us()
            )
            return Planned(f"agent.{move}", shown_agent(row), shown_agent(put), put)

        seq = await self.made(tenant, f"agent:{agent}", plan, actor, reason)
        return AgentChanged(self._standing(tenant, agent), seq)

    async def rotate_token(
        self, tenant: str, agent: str, *, actor: str, reason: str = ""
    ) -> AgentChanged:
        """A new token; the one before counts for nothing from now on. Raises ChangeRefused:
        unknown_tenant, unknown_agent, token_in_configuration, wrong_state, and as `made` does."""
        token = made_token(self._clock, tenant, agent)

        def plan(view: TenantView) -> Planned:
            now = existing(view, agent)
            if self._has_configured_token(tenant, agent):
                raise ChangeRefused(
                    "token_in_configuration",
                    f"the token of {tenant}/{agent} stands in sidecar.yaml",
                    "Write another secret where the configuration refers to, and restart.",
                )
            if after(now.state, Move.REVOKE) is None:
                raise ChangeRefused(
                    "wrong_state", f"{tenant}/{agent} is {now.state}", way_on(now.state)
                )
            row = row_of(view, now)
            put = row._replace(
                version=row.version + 1, token_sha256=sha256_of(token), changed_at_us=self.now_us()
            )
            return Planned("agent.rotate_token", shown_agent(row), shown_agent(put), put)

        seq = await self.made(tenant, f"agent:{agent}", plan, actor, reason)
        return AgentChanged(self._standing(tenant, agent), seq, token)

    # -- keys --------------------------------------------------------------------------------

    async def make_key(
        self,
        tenant: str,
        profile: KeyProfile,
        *,
        actor: str,
        expires_at_us: int = 0,
        reason: str = "",
    ) -> KeyChanged:
        """A new key of the control listener; it ends by the store's clock (`store_now_us`), 0 is
        one that does not end by itself. Raises ChangeRefused: unknown_tenant, bad_name, bad_key,
        too_many, and as `made` does."""
        _require_name(profile.name)
        for group in profile.groups:
            _require_name(group)
        if not profile.roles:
            raise ChangeRefused("bad_key", "a key without a role opens nothing", "Give it a role.")
        if expires_at_us and expires_at_us <= await self.store_now_us():
            raise ChangeRefused("bad_key", "the key would have ended already")
        key_id = f"k{self._clock.new_id()}"
        key = made_key(self._clock, tenant, key_id)

        def plan(view: TenantView) -> Planned:
            valid = (one for one in view.keys.values() if one.state == KEY_ACTIVE)
            if sum(not self._registry.has_ended(one) for one in valid) >= KEYS_MAX:
                raise ChangeRefused("too_many", f"{tenant} has {KEYS_MAX} keys already", KEYS_FULL)
            row = KeyRow(
                tenant, key_id, 1, KEY_ACTIVE, profile.text(), sha256_of(key), expires_at_us,
                self.now_us(),
            )  # fmt: skip
            return Planned("key.create", None, shown_key(row, profile), row)

        seq = await self.made(tenant, f"key:{key_id}", plan, actor, reason)
        return KeyChanged(key_id, profile, KEY_ACTIVE, expires_at_us, seq or 0, key)

    async def revoke_key(
        self, tenant: str, key_id: str, *, actor: str, reason: str = ""
    ) -> KeyChanged:
        """A key that opens nothing any more. Raises ChangeRefused: unknown_tenant, unknown_key,
        wrong_state, and as `made` does."""
        found: list[KeyRow] = []

        def plan(view: TenantView) -> Planned:
            row = view.keys.get(key_id)
            if row is None:
                raise ChangeRefused(
                    "unknown_key", f"{tenant} has no key {key_id!r}", "`keys list` shows them."
                )
            if row.state != KEY_ACTIVE:
                raise ChangeRefused("wrong_state", f"the key {key_id} is {row.state} already")
            put = row._replace(
                version=row.version + 1, state=KEY_REVOKED, changed_at_us=self.now_us()
            )
            found[:] = [put]
            profile = key_profile(row)
            return Planned("key.revoke", shown_key(row, profile), shown_key(put, profile), put)

        seq = await self.made(tenant, f"key:{key_id}", plan, actor, reason)
        (row,) = found
        profile = key_profile(row) or KeyProfile("unreadable", frozenset())
        return KeyChanged(key_id, profile, row.state, row.expires_at_us, seq or 0)

    # -- how it is made ----------------------------------------------------------------------

    async def made(
        self,
        tenant: str,
        subject: str,
        plan: Callable[[TenantView], Planned | None],
        actor: str,
        reason: str,
    ) -> int | None:
        """The number of the receipt that tells of the change; None if there was nothing to change.

        `plan` works it out from the tenant as it is known, and again if that is another by then.
        Raises ChangeRefused: unknown_tenant, bad_reason, store_fenced, stale, and the store's.
        """
        if tenant not in self._tenants:
            raise ChangeRefused(
                "unknown_tenant", f"there is no tenant {tenant!r}", "Tenants stand in sidecar.yaml."
            )
        if len(reason) > REASON_CHARS_MAX or any(0xD800 <= ord(c) <= 0xDFFF for c in reason):
            raise ChangeRefused(
                "bad_reason", f"a reason is text of at most {REASON_CHARS_MAX} characters"
            )
        try:
            for _ in range(TRIES_MAX):
                await self._registry.renew(tenant)
                view = self._registry.view(tenant)
                planned = None if view is None else plan(view)
                if planned is None:
                    return None
                if self._fence.is_up:
                    raise ChangeRefused(
                        "store_fenced", "the store stands still", self._fence.sentence()
                    )
                change = Change(
                    tenant, actor, planned.action, subject, planned.before, planned.after, reason,
                    planned.put, planned.also,
                )  # fmt: skip
                entry = change_entry(self._clock, change)
                entry.epoch = planned.epoch
                answer = await self._queue.submit(entry)
                if isinstance(answer, Recorded):
                    self._registry.bell.ring_elsewhere()
                    await self._known_here(tenant, planned)
                    return answer.seq
        except (CommitUnknown, QueueTimeout) as error:
            raise ChangeRefused(
                error.code, f"whether it was recorded is not known: {error}", LOOK_AGAIN
            ) from error
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        raise ChangeRefused("stale", f"{subject} kept changing meanwhile", "Try again.")

    async def _known_here(self, tenant: str, planned: Planned) -> None:
        """What is on record was changed, also where the store cannot be read just now: who asked is
        told so, and has the token or key that is shown once."""
        try:
            await self._registry.renew(tenant)
        except StoreError as error:
            _log.warning(
                "a change is on record, and the store cannot be read now",
                extra={"cause": error.code},
            )
            self._registry.take_changed(tenant, (planned.put, *planned.also))

    def _standing(self, tenant: str, agent: str) -> Principal:
        found = self._registry.agent(tenant, agent)
        if found is None:
            raise ChangeRefused("unknown_agent", f"{tenant} has no agent {agent!r} any more")
        return found

    def _has_configured_token(self, tenant: str, agent: str) -> bool:
        configured = self._tenants[tenant].agents.get(agent)
        return configured is not None and configured.token is not None

    def now_us(self) -> int:
        """The time changes are made at."""
        return self._clock.now_us()

    async def store_now_us(self) -> int:
        """The time by the clock that ends keys. Raises ChangeRefused, the store's."""
        try:
            return await self._registry.store_now_us()
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error


def existing(view: TenantView, agent: str) -> Principal:
    """An agent of the tenant, in any state. Raises ChangeRefused("unknown_agent")."""
    found = view.agents.get(agent)
    if found is None:
        raise ChangeRefused(
            "unknown_agent",
            f"{view.tenant} has no agent {agent!r}",
            "`agents list` shows them.",
        )
    return found


def row_of(view: TenantView, now: Principal) -> AgentRow:
    """What the store keeps of an agent; of one that only the configuration knows, version 0."""
    row = view.rows.get(now.agent)
    return row or AgentRow(view.tenant, now.agent, 0, now.state.value, "{}", "", 0)


def _origin(move: Move) -> AgentState:
    """Some state from which the move can be made."""
    return next(state for state in AgentState if after(state, move) is not None)


def way_on(state: AgentState) -> str:
    """What can be done with an agent that stands so."""
    ways = {
        AgentState.ACTIVE: "It may call as it is.",
        AgentState.FROZEN: "`agents unfreeze` ends a freeze.",
        AgentState.QUARANTINED: "`agents restore` ends a quarantine.",
    }
    return ways.get(state, "That is final: register an agent of another name.")


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ChangeRefused(
            "bad_name",
            "a name has lower-case letters, digits and -, at most 63, and no - in front",
        )
