"""Whether a store has it on record that a signing key was replaced.

Knows: that a head which a replaced key signs is a fault to every verifier, and that a head which
was kept elsewhere cannot be taken back; so that a sidecar whose configuration was left behind, or a
node that nobody restarted, must rather sign nothing. It reads changes of state, once whole and then
only what was recorded since: signing is frequent, and a change of keys is not.
Must not know: who signs, what a verifier makes of it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from sidecar.ledger.care import ROTATE_KEY
from storage.errors import StoreError
from storage.listings import Listings
from storage.sql_store import SqlStore
from storage.standing import AuditRow

#: Changes of a chain's key that are looked at, the newest.
ROTATIONS_MAX: Final = 1_000
_PAGE_ROWS: Final = 500


class Replaced(NamedTuple):
    """Since receipt `seq` another key signs: `by`, as NAME+ID+KEY."""

    seq: int
    by: str


class KeyReplaced(StoreError):
    """The key that is to sign was replaced by another one, on record."""

    code = "key_replaced"

    def __init__(self, tenant_id: str, replaced: Replaced) -> None:
        super().__init__(
            f"tenant {tenant_id!a}: receipt {replaced.seq} says that in the place of this key "
            f"{replaced.by} signs, and no verifier would take what it signs now: set receipts.key "
            "to that one, and start the sidecar again"
        )


class KeyStanding:
    """How one key stands in each chain of a store that it signs."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._seen: dict[str, tuple[int, Replaced | None]] = {}

    async def require_in_force(self, tenant_id: str, key: str, until_seq: int) -> None:
        """Raises KeyReplaced if a receipt up to `until_seq` says that another key follows `key`
        (NAME+ID+KEY), and any StoreError of reading."""
        if tenant_id not in self._seen:
            found = await replaced_by(self._store, tenant_id, key, until_seq)
        else:
            seq, found = self._seen[tenant_id]
            found = await self._later(tenant_id, key, seq, until_seq, found)
        self._seen[tenant_id] = until_seq, found
        if found is not None:
            raise KeyReplaced(tenant_id, found)

    async def _later(
        self, tenant_id: str, key: str, seq: int, until_seq: int, found: Replaced | None
    ) -> Replaced | None:
        listings = Listings(self._store)
        while rows := await listings.changes_between(tenant_id, seq, until_seq, _PAGE_ROWS):
            for row in rows:
                found = _after(found, row, key)
            seq = rows[-1].seq
        return found


async def replaced_by(store: SqlStore, tenant_id: str, key: str, until_seq: int) -> Replaced | None:
    """What is on record of a key up to a receipt; None if it may sign. Raises a StoreError."""
    rows = await store.audit_events(tenant_id, until_seq + 1, ROTATIONS_MAX, action=ROTATE_KEY)
    found: Replaced | None = None
    for row in reversed(rows):
        found = _after(found, row, key)
    return found


def _after(found: Replaced | None, row: AuditRow, key: str) -> Replaced | None:
    if row.action != ROTATE_KEY:
        return found
    new = _key_in(row.after_state)
    if new == key:
        return None
    return Replaced(row.seq, new) if _key_in(row.before_state) == key else found


def _key_in(state: str) -> str:
    try:
        said: Any = orjson.loads(state) if state else None
    except orjson.JSONDecodeError:
        return ""
    return str(said.get("key", "")) if isinstance(said, dict) else ""
