"""Keys of people and services: which there are, whose they are, and what they may do.

Knows: that a key is shown once, when it is made; the store has its hash, and no answer has either.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field

from sidecar.control.api.paging import page_of, place
from sidecar.control.api.parameters import in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.route import (
    ADMINS,
    NAME_PATTERN,
    WHOLE,
    Asked,
    Body,
    Line,
    Listed,
    Reason,
    Route,
    Shape,
)
from sidecar.identity.changes import KeyChanged
from sidecar.identity.profiles import KeyProfile
from sidecar.model import Role
from storage.standing import KeyRow

ROOM: Final = "keys"
READ_S: Final = 10.0
DAYS_MAX: Final = 3650
_DAY_US: Final = 86_400 * 1_000_000


class KeyShape(Shape):
    """A key, without what it is. `expires_at_us` is null for one that does not end by itself."""

    key_id: str
    state: str
    name: str
    roles: list[str]
    groups: list[str]
    expires_at_us: int | None
    changed_at_us: int


class ChangedKeyShape(Shape):
    """A key after a change, and the receipt that says so."""

    key_id: str
    state: str
    name: str
    roles: list[str]
    groups: list[str]
    expires_at_us: int | None
    seq: int


class NewKeyShape(ChangedKeyShape):
    """A key that was made. `key` is shown this once."""

    key: str


Group = Annotated[str, Field(pattern=NAME_PATTERN)]
Days = Annotated[int, Field(ge=1, le=DAYS_MAX), WHOLE]


class NewKey(Body):
    """Whose key it is to be, and what it may do."""

    name: str = Field(pattern=NAME_PATTERN)
    roles: list[Literal["viewer", "auditor", "approver", "operator", "admin"]] = Field(
        min_length=1, max_length=5
    )
    groups: list[Group] = Field(default_factory=list, max_length=64)
    days: Days | None = Field(None, description="until it ends by itself")
    reason: Line = Field("", max_length=1024)


def told(row: KeyRow) -> dict[str, Any]:
    """A key as its shape."""
    profile = orjson.loads(row.profile or "{}")
    return {
        "key_id": row.key_id,
        "state": row.state,
        "name": str(profile.get("name", "")),
        "roles": [str(role) for role in profile.get("roles", [])],
        "groups": [str(group) for group in profile.get("groups", [])],
        "expires_at_us": row.expires_at_us or None,
        "changed_at_us": row.changed_at_us,
    }


async def list_keys(asked: Asked) -> Listed:
    """By id, so oldest first."""
    after = place(asked, "")
    rows = [row for row in await asked.rooms.reader.api_keys(asked.tenant) if row.key_id > after]
    rows.sort(key=lambda row: row.key_id)
    return page_of(rows, asked, told, lambda row: row.key_id)


async def make_key(asked: Asked) -> dict[str, Any]:
    """A new key, shown this once."""
    new = asked.body
    profile = KeyProfile(new.name, frozenset(map(Role, new.roles)), frozenset(new.groups))
    changes = asked.rooms.changes
    expires_at_us = await changes.store_now_us() + new.days * _DAY_US if new.days else 0
    made = await changes.make_key(
        asked.tenant, profile, actor=asked.person.actor, expires_at_us=expires_at_us,
        reason=new.reason,
    )  # fmt: skip
    return {**_changed(made), "key": made.key or ""}


async def revoke_key(asked: Asked) -> dict[str, Any]:
    """The key counts no more."""
    key_id = asked.values["key_id"]
    if all(row.key_id != key_id for row in await asked.rooms.reader.api_keys(asked.tenant)):
        raise not_found("key", key_id)
    return _changed(
        await asked.rooms.changes.revoke_key(
            asked.tenant, key_id, actor=asked.person.actor, reason=asked.body.reason
        )
    )


def _changed(one: KeyChanged) -> dict[str, Any]:
    return {
        "key_id": one.key_id,
        "state": one.state,
        "name": one.profile.name,
        "roles": sorted(role.value for role in one.profile.roles),
        "groups": sorted(one.profile.groups),
        "expires_at_us": one.expires_at_us or None,
        "seq": one.seq,
    }


ROUTES: Final = (
    Route(
        "list_keys", "GET", "/v1/keys", "Keys of people and services, oldest first",
        ADMINS, list_keys, list[KeyShape], pages="cursor", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "make_key", "POST", "/v1/keys", "Makes a key, which is shown this once",
        ADMINS, make_key, NewKeyShape, body=NewKey, status=201,
        problems=("refused",), room=ROOM,
    ),
    Route(
        "revoke_key", "POST", "/v1/keys/{key_id}/revoke", "The key counts no more",
        ADMINS, revoke_key, ChangedKeyShape, (in_path("key_id", "its id"),),
        body=Reason, is_body_optional=True,
        problems=("not_found", "refused"), room=ROOM,
    ),
)  # fmt: skip
