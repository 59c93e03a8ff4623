"""Who may call, as this process knows it: agents and keys of configuration and store together.

Knows: that a tenant is read whole, its epoch first and the rows after it, so that what is known is
never older than the epoch it bears: an intent is guarded by that epoch, and whoever was frozen
since finds it raised. A tenant is read again when the store says that a record was stale, at once
after a change of this process, and, where several processes write to one store, whenever its epoch
is another than the one known. What the configuration says of an agent counts; the store adds how
it stands, agents that were registered, and what their calls are held to (containments).
Must not know: HTTP, what a credential looks like, how a change is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.bell import Bell
from sidecar.errors import Refused
from sidecar.identity.agent_states import FINAL, barred
from sidecar.identity.containment_subjects import ACTIVE, blocks_of, contained_of
from sidecar.identity.profiles import principal_of, state_of
from sidecar.identity.tokens import is_same, sha256_of
from sidecar.model import AgentState, Principal
from sidecar.policy.contained import Action, host_of
from storage.errors import StoreError
from storage.standing import AgentRow, KeyRow
from storage.watch_rows import ContainmentRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from storage.records import HeadRow

_log = logging.getLogger("aegis.identity")

#: How often the epochs of a store that several share are looked at.
POLL_S: Final = 0.25
#: Digits of a token's hash by which it is found.
INDEXED_DIGITS: Final = 16
#: How often a tenant is read in a row because it changes while it is read.
READS_MAX: Final = 8


class ReadsRegistry(Protocol):
    """What is needed of a store."""

    async def head(self, tenant_id: str) -> HeadRow:
        """The tenant's head, with its epoch."""
        ...

    async def epochs(self) -> dict[str, int]:
        """Job across tenants: the epoch of every tenant that has a head."""
        ...

    async def agents(self, tenant_id: str) -> list[AgentRow]:
        """Its agents of whom the store keeps anything."""
        ...

    async def api_keys(self, tenant_id: str) -> list[KeyRow]:
        """Its keys in any state."""
        ...

    async def active_containments(self, tenant_id: str) -> list[ContainmentRow]:
        """What is contained, over by its time or not."""
        ...

    async def clock_us(self) -> int:
        """Now, by the clock that says when a containment or a key is over."""
        ...


@dataclass(frozen=True, slots=True)
class TenantView:
    """One tenant as it stood at `epoch`, or after it. `rows` are what the store keeps of agents,
    `tokens` the hashes of tokens that let an agent in, by agent. `containments` are the
    active ones; they end by the store's clock, as keys do, which is `ahead_us` ahead of
    `Clock.steady_us`. `ended_keys` were over once, and stay so if that clock is set back."""

    tenant: str
    epoch: int
    agents: Mapping[str, Principal]
    rows: Mapping[str, AgentRow]
    keys: Mapping[str, KeyRow]
    tokens: Mapping[str, str]
    containments: tuple[ContainmentRow, ...] = ()
    ahead_us: int = 0
    ended_keys: frozenset[str] = frozenset()


class Registry:
    """One for a sidecar. All is done on the event loop's thread; look-ups await nothing."""

    def __init__(
        self, config: Config, store: ReadsRegistry, clock: Clock, *, is_alone: bool
    ) -> None:
        """`is_alone` says that no other process writes to the store."""
        self._is_alone = is_alone
        self._config = config
        self._store = store
        self._clock = clock
        self._views: dict[str, TenantView] = {}
        self._turns: dict[str, asyncio.Lock] = {name: asyncio.Lock() for name in config.tenants}
        #: The least epoch a tenant is known to have.
        self._wanted: dict[str, int] = {}
        #: By the first digits of the hash: the rest is compared in constant time.
        self._by_token: dict[str, tuple[str, Principal]] = {}
        self._looked_ns = clock.monotonic_ns()
        #: The host that each upstream leads to.
        self._hosts = {name: host_of(one.url) for name, one in config.upstreams.items()}
        #: Set where what is contained may be another: the next end may be too.
        self.containments_changed = asyncio.Event()
        #: Rung where another process changed who may call.
        self.bell = Bell()
        #: Who calls without a credential, however it stands; None if nobody may.
        self.default: Principal | None = None
        #: Each is called with a tenant that was read anew.
        self.on_read: list[Callable[[str], None]] = []
        #: How often a tenant was read from the store.
        self.reads_total = 0

    async def load(self) -> None:
        """Reads all tenants. Raises StoreError."""
        for tenant in self._config.tenants:
            await self._read(tenant)

    # -- look-ups ----------------------------------------------------------------------------

    @property
    def has_tokens(self) -> bool:
        """Whether any agent has a token."""
        return bool(self._by_token)

    def by_token(self, sha256: str) -> Principal | None:
        """The agent whose token has this hash (hex), however it stands short of its end."""
        found = self._by_token.get(sha256[:INDEXED_DIGITS])
        return found[1] if found is not None and is_same(found[0], sha256) else None

    def agent(self, tenant: str, agent: str) -> Principal | None:
        """An agent, in any state; None if the tenant, if there is one, has none of that name."""
        view = self._views.get(tenant)
        return None if view is None else view.agents.get(agent)

    def view(self, tenant: str) -> TenantView | None:
        """A tenant as it is known now; None if there is no such tenant."""
        return self._views.get(tenant)

    def has_ended(self, key: KeyRow) -> bool:
        """Whether the time of a key is over, by the store's clock and a steady one."""
        if not key.expires_at_us:
            return False
        view = self._views.get(key.tenant_id)
        if view is None or key.key_id in view.ended_keys:
            return True
        return self._clock.steady_us() + view.ahead_us >= key.expires_at_us

    def views(self) -> Iterator[TenantView]:
        """All tenants as they are known now."""
        return iter(self._views.values())

    def agents_by_state(self) -> dict[str, int]:
        """How many agents stand how, over all tenants."""
        counts = dict.fromkeys(AgentState, 0)
        for view in self._views.values():
            for principal in view.agents.values():
                counts[principal.state] += 1
        return {state.value: count for state, count in counts.items()}

    def containments_by_action(self) -> dict[str, int]:
        """How many containments are active, over all tenants."""
        counts = dict.fromkeys((action.value for action in Action), 0)
        for view in self._views.values():
            for row in view.containments:
                counts[row.action] = counts.get(row.action, 0) + 1
        return counts

    async def store_now_us(self) -> int:
        """Now, by the store's clock. Raises StoreError."""
        return await self._store.clock_us()

    # -- what has changed --------------------------------------------------------------------

    @property
    def is_alone(self) -> bool:
        """Whether no other process writes to the store."""
        return self._is_alone

    def is_behind(self, tenant: str, epoch: int) -> None:
        """The store said that a tenant is at this epoch by now."""
        if epoch > self._wanted.get(tenant, 0):
            self._wanted[tenant] = epoch

    async def again(self, principal: Principal) -> Principal:
        """The same caller as it stands now, after a record that rested on it was stale.

        Raises Refused: that of its state, or store_unavailable.
        """
        tenant = principal.tenant
        try:
            await self.reload(tenant, self._wanted.get(tenant, 0))
        except StoreError as error:
            raise Refused("store_unavailable", retry_after_s=1, detail=error.code) from error
        return self.standing(principal)

    def standing(self, principal: Principal) -> Principal:
        """The same caller as it is known now. Raises Refused: that of its state."""
        now = self.agent(principal.tenant, principal.agent)
        if now is None:
            raise barred(AgentState.DELETED)
        if now.state is not AgentState.ACTIVE:
            raise barred(now.state)
        return replace(now, user=principal.user, claims=principal.claims, run=principal.run)

    async def reload(self, tenant: str, epoch_min: int) -> None:
        """Reads a tenant until it is known as of that epoch. Raises StoreError."""
        for _ in range(READS_MAX):
            async with self._turns[tenant]:
                if self._views[tenant].epoch >= epoch_min:
                    return
                await self._read(tenant)

    async def renew(self, tenant: str) -> None:
        """Reads a tenant as it is now, for what is worked out from it. Raises StoreError."""
        async with self._turns[tenant]:
            await self._read(tenant)

    async def watch(self) -> None:
        """Where others write to the store too: reads what they changed, soon, and never ends."""
        while not self._is_alone:
            await self.bell.rest(POLL_S)
            try:
                await self.look()
            except StoreError as error:
                # Nothing goes ahead meanwhile that rests on what others have changed: an intent
                # is guarded, and whoever looks at the record is asked for in `fresh`.
                _log.debug("epochs could not be read", extra={"cause": error.code})

    async def look(self) -> None:
        """Reads the tenants whose epoch is another than the one known. Raises StoreError."""
        began_ns = self._clock.monotonic_ns()
        epochs = await self._store.epochs()
        for tenant, view in list(self._views.items()):
            epoch = epochs.get(tenant, 0)
            if epoch > view.epoch:
                await self.reload(tenant, epoch)
        self._looked_ns = began_ns

    async def fresh(self, age_max_s: float) -> None:
        """Looks now if the last look was longer ago than this. Raises StoreError."""
        if self._clock.monotonic_ns() - self._looked_ns > age_max_s * 1e9:
            await self.look()

    # -- reading -----------------------------------------------------------------------------

    async def _read(self, tenant: str) -> None:
        self.reads_total += 1
        epoch = (await self._store.head(tenant)).epoch  # first: the rows may only be newer
        rows = {row.agent_id: row for row in await self._store.agents(tenant)}
        keys = {row.key_id: row for row in await self._store.api_keys(tenant)}
        contained = tuple(await self._store.active_containments(tenant))
        ahead_us = 0
        if contained or any(key.expires_at_us for key in keys.values()):
            # asked before our own clock: what is contained rather ends late than early
            ahead_us = await self._store.clock_us() - self._clock.steady_us()
        self._take(tenant, epoch, rows, keys, contained, ahead_us)

    def take_changed(self, tenant: str, rows: Iterable[object]) -> None:
        """Takes over what this process has just put on record, where the store cannot be read by
        then. The epoch stays as it was: whatever rests on it is looked at anew."""
        view = self._views[tenant]
        agents, keys = dict(view.rows), dict(view.keys)
        contained = {row.containment_id: row for row in view.containments}
        for row in rows:
            if isinstance(row, AgentRow):
                agents[row.agent_id] = row
            elif isinstance(row, KeyRow):
                keys[row.key_id] = row
            elif isinstance(row, ContainmentRow):
                contained.pop(row.containment_id, None)
                if row.state == ACTIVE:
                    contained[row.containment_id] = row
        standing = tuple(contained.values())
        self._take(tenant, view.epoch, agents, keys, standing, view.ahead_us)

    def _take(
        self,
        tenant: str,
        epoch: int,
        rows: Mapping[str, AgentRow],
        keys: Mapping[str, KeyRow],
        contained: tuple[ContainmentRow, ...],
        ahead_us: int,
    ) -> None:
        before = self._views.get(tenant)
        view = self._made(tenant, epoch, rows, keys, contained, ahead_us)
        self._views[tenant] = replace(view, ended_keys=self._ended_keys(before, keys))
        if contained != (before.containments if before is not None else ()):
            self.containments_changed.set()
        self._by_token = {
            sha256[:INDEXED_DIGITS]: (sha256, view.agents[agent])
            for view in self._views.values()
            for sha256, agent in view.tokens.items()
        }
        chosen = self._config.default_agent
        if chosen is not None:
            self.default = self.agent(*chosen)
        for hear in self.on_read:
            hear(tenant)

    def _ended_keys(self, before: TenantView | None, keys: Mapping[str, KeyRow]) -> frozenset[str]:
        """Those that are over as the tenant was known until now. A new reading of the store's
        clock, which for a file is this machine's, must not give any of them new life."""
        if before is None:
            return frozenset()
        return frozenset(
            name for name, key in before.keys.items() if name in keys and self.has_ended(key)
        )

    def _made(
        self,
        tenant: str,
        epoch: int,
        rows: Mapping[str, AgentRow],
        keys: Mapping[str, KeyRow],
        containments: tuple[ContainmentRow, ...],
        ahead_us: int,
    ) -> TenantView:
        configured = self._config.tenants[tenant].agents
        names = (*configured, *(name for name in rows if name not in configured))
        contained = contained_of(blocks_of(containments, self._hosts, ahead_us), names)
        agents: dict[str, Principal] = {}
        tokens: dict[str, str] = {}
        for name in names:
            row = rows.get(name)
            state = AgentState.ACTIVE if row is None else state_of(row)
            agent = principal_of(tenant, name, configured.get(name), row, state, epoch)
            if contained:
                agent = replace(agent, contained=contained.get(name))
            agents[name] = agent
            if state in FINAL:
                continue
            own = configured.get(name)
            if own is not None and own.token is not None:
                tokens[sha256_of(own.token.reveal())] = name
            elif row is not None and row.token_sha256:
                tokens[row.token_sha256] = name
        return TenantView(tenant, epoch, agents, rows, keys, tokens, containments, ahead_us)
