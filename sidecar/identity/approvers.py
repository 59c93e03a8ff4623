"""Who may be given a signed link: people whom the configuration names, or who have a key. Pure.

Knows: that whoever makes links could fill a quorum alone if they were good for any name: a name
stands in sidecar.yaml, or a key was made for it on record, with the role and the groups.
Must not know: links, approvals, the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sidecar.identity.profiles import key_profile
from sidecar.model import Role

if TYPE_CHECKING:
    from sidecar.config.identity_model import ConfiguredPerson
    from storage.standing import KeyRow

_MAY_APPROVE = frozenset({Role.APPROVER, Role.ADMIN})


def groups_of_approver(
    name: str, people: Mapping[str, ConfiguredPerson], keys: Iterable[KeyRow]
) -> frozenset[str] | None:
    """The groups of a tenant's approver of this name, by its configuration and by `keys`, those
    that open something now; None if there is no such approver."""
    found: list[Iterable[str]] = []
    configured = people.get(name)
    if configured is not None and _MAY_APPROVE.intersection(configured.roles):
        found.append(configured.groups)
    for row in keys:
        profile = key_profile(row)
        if profile is not None and profile.name == name and _MAY_APPROVE & profile.roles:
            found.append(profile.groups)
    return frozenset().union(*found) if found else None
