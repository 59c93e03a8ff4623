"""Who may call, look and decide by the configuration is on record, and when that changes.

Knows: that what was told last stands in a row of the tenant's, which is put with the event that
tells of a change, in one transaction; that a new store needs no event: what it began with is kept
with it by name, and leaves it as empty as it was. A tenant that is gone from the configuration is
told by the node that told of it, since of several nodes each may serve tenants of its own.
Must not know: files, what agents and people are, secrets.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from sidecar.ledger.audited import SIDECAR, Deed, audited_entry
from storage.records import Answer, Entry, Recorded
from storage.watch_rows import WatchMemory

if TYPE_CHECKING:
    from sidecar.clock import Clock

LOADED: Final = "config.load"
SUBJECT: Final = "sidecar.yaml"
#: Stands where a memory names its detection; no detection can be called that.
TOLD: Final = ":told-configuration"
_ROW: Final = "sidecar.yaml"
#: Before a tenant's name: what the store keeps of what was configured first.
_FIRST: Final = "configuration:"
#: The row never ends: a BIGINT that no clock comes to.
_NEVER_US: Final = 2**62
SALT_BYTES: Final = 32
#: How often it is compared anew, because another node has told meanwhile.
TRIES_MAX: Final = 8
#: Names that the reason has of each kind; all of them stand in before and after.
NAMES_MAX: Final = 20
#: What has a value for each name; all else is one value.
_BY_NAME: Final = ("agents", "people")

_log = logging.getLogger("aegis.config")

State = Mapping[str, Any]


class Reads(Protocol):
    """What is needed of a store."""

    async def tenants(self) -> list[str]:
        """Everyone with a chain."""
        ...

    async def watch_memories(
        self, tenant_id: str, after: tuple[str, str], limit: int
    ) -> list[WatchMemory]:
        """Rows after a detection and subject."""
        ...

    async def kept(self, name: str) -> str | None:
        """What is kept by a name; None for nothing."""
        ...

    async def keep(self, name: str, value: str) -> str:
        """What is kept by a name from now on: `value`, unless something was."""
        ...


class Submits(Protocol):
    """The write queue."""

    async def submit(self, entry: Entry) -> Answer:
        """Waits until the entry is durable; raises a StoreError."""
        ...


class Difference(NamedTuple):
    """What is another now: before and after of that alone, and a sentence."""

    before: dict[str, Any]
    after: dict[str, Any]
    words: str


class _Told(NamedTuple):
    """What was told last, by which node; `salt` keys its digests. `version` is that of the row, 0
    without one; what cannot be read has no state."""

    version: int
    salt: bytes
    node: str
    state: dict[str, Any] | None


class ConfigRecord:
    """For all tenants of a sidecar, once when it starts."""

    def __init__(
        self,
        tenants: Collection[str],
        store: Reads,
        queue: Submits,
        clock: Clock,
        *,
        node: str,
        told_of: Callable[[str, bytes], dict[str, Any]],
    ) -> None:
        """`told_of(tenant, salt)` is what is to be told of a tenant, as JSON values; {} of one that
        is not configured."""
        self._tenants = tuple(tenants)
        self._store = store
        self._queue = queue
        self._clock = clock
        self._node = node
        self._told_of = told_of

    async def loaded(self) -> None:
        """Puts on record what is configured, where the record says otherwise. Raises a StoreError;
        then not all of it is on record, and nobody may be served by it."""
        for tenant in self._tenants:
            await self._compared(tenant)
        for tenant in await self._store.tenants():
            if tenant in self._tenants:
                continue
            told = await self._told(tenant)
            if told is not None and told.node == self._node:
                await self._compared(tenant)

    async def _compared(self, tenant: str) -> None:
        for _ in range(TRIES_MAX):
            if await self._tell(tenant):
                return
        # A chain that takes nothing has no calls either, and keeps nobody else from them.
        _log.error(
            "what is configured cannot be recorded", extra={"detail": f"tenant {tenant}"}
        )  # fmt: skip

    async def _tell(self, tenant: str) -> bool:
        """Whether the record says by now what is configured."""
        told = await self._told(tenant)
        if told is None:
            salt = self._clock.random_bytes(SALT_BYTES)
            text = self._text(salt, self._told_of(tenant, salt))
            return await self._store.keep(f"{_FIRST}{tenant}", text) == text
        salt = told.salt or self._clock.random_bytes(SALT_BYTES)
        now = self._told_of(tenant, salt)
        found = difference(told.state or {}, now)
        if found is None:
            return True
        before = None if told.state is None else found.before
        deed = Deed(
            LOADED, SIDECAR, SUBJECT, before, found.after | {"node": self._node}, found.words
        )
        entry = audited_entry(self._clock, tenant, deed)
        text = self._text(salt, now)
        entry.puts = (WatchMemory(tenant, TOLD, _ROW, told.version + 1, text, _NEVER_US),)
        return isinstance(await self._queue.submit(entry), Recorded)

    def _text(self, salt: bytes, state: State) -> str:
        return json.dumps({"salt": salt.hex(), "node": self._node, "state": state})

    async def _told(self, tenant: str) -> _Told | None:
        """None where nothing was told yet."""
        rows = await self._store.watch_memories(tenant, (TOLD, ""), 1)
        if rows and rows[0].detection == TOLD:
            return _read(rows[0].version, rows[0].state)
        first = await self._store.kept(f"{_FIRST}{tenant}")
        return None if first is None else _read(0, first)


def difference(before: State, now: State) -> Difference | None:
    """What is added, removed and changed, by name; None if nothing is. Pure."""
    was: dict[str, Any] = {}
    became: dict[str, Any] = {}
    words: list[str] = []
    for kind in _BY_NAME:
        old, new = before.get(kind, {}), now.get(kind, {})
        names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        if names:
            was[kind] = {name: old[name] for name in names if name in old}
            became[kind] = {name: new[name] for name in names if name in new}
            words += _words(kind, names, old, new)
    for key in sorted({*before, *now}.difference(_BY_NAME)):
        if before.get(key) != now.get(key):
            was |= {key: before[key]} if key in before else {}
            became |= {key: now[key]} if key in now else {}
            words.append(f"{key} changed")
    return Difference(was, became, "; ".join(words)) if words else None


def _words(kind: str, names: Sequence[str], old: State, new: State) -> list[str]:
    sorts = {
        "added": [name for name in names if name not in old],
        "removed": [name for name in names if name not in new],
        "changed": [name for name in names if name in old and name in new],
    }
    return [f"{kind} {what}: {_listed(some)}" for what, some in sorts.items() if some]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def _read(version: int, text: str) -> _Told:
    try:
        said = json.loads(text)
        salt, node, state = bytes.fromhex(said["salt"]), str(said["node"]), dict(said["state"])
    except (ValueError, TypeError, KeyError):
        return _Told(version, b"", "", None)
    is_read = all(isinstance(state.get(kind, {}), dict) for kind in _BY_NAME)
    return _Told(version, salt, node, state if is_read else None)
