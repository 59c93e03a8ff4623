"""Approvals over control.sock: looked at and decided by whoever the machine lets in, on record.

Knows: that a person there is the user of the connecting process, and an admin: he could change the
rules as well. What he says is recorded as `socket:USER`, and so is whom he gives a link: not to
anybody, but to an approver who is known here.
Must not know: HTTP, the command line, how a vote is counted.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sidecar.approvals.links import PATH as LINK_PATH
from sidecar.approvals.refusals import ApprovalRefused, already
from sidecar.approvals.view import compared_with, shown
from sidecar.errors import Refused
from sidecar.identity.approvers import groups_of_approver
from sidecar.model import Person, Role
from storage.errors import StoreError

if TYPE_CHECKING:
    from sidecar.approvals.service import Approvals
    from sidecar.config.identity_model import Tenant as ConfiguredTenant
    from storage.standing import ApprovalRow, KeyRow

#: What a person does with one.
VERBS: Final = ("approve", "reject", "withdraw")
#: So many are listed at once.
LISTED_MAX: Final = 200
#: Titles and next steps of refusals of links.
_UNKNOWN_PERSON: Final = (
    "No approver of this name is known here: a link is good for nobody else",
    "Name one of tenants.TENANT.people with the role approver, or somebody who has a key of that "
    "role: `keys create NAME --role approver --group GROUP`.",
)
_NOT_IN_GROUP: Final = (
    "this person is in no such group",
    "Leave --group out for all of the person's groups, or name some of them.",
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class ApprovalCareRefused(Exception):
    """What was asked is refused: `code` is stable, `next_step` says what to do."""

    def __init__(self, code: str, title: str, next_step: str) -> None:
        super().__init__(title)
        self.code = code
        self.title = title
        self.next_step = next_step


class ApprovalCare:
    """For the tenants of one sidecar."""

    def __init__(
        self,
        approvals: Approvals,
        tenants: Mapping[str, ConfiguredTenant],
        url: str,
        keys: Callable[[str], Awaitable[Iterable[KeyRow]]],
    ) -> None:
        """`tenants` are those of the configuration; `url` is the base of links, "" where nobody
        would answer them; `keys` are those of a tenant that the store keeps and that open
        something now (raises StoreError)."""
        self._keys = keys
        self._deciding = approvals.deciding
        self._links = approvals.links
        self._configured = tenants
        self._tenants = tuple(tenants)
        self._url = url

    async def list(self, tenant: str, *, every: bool, after: str = "") -> dict[str, Any]:
        """Those that are open, the oldest first, and in `next` the id `after` which there may be
        more; with `every` those in any state, the newest first. Raises ApprovalCareRefused."""
        rows: list[ApprovalRow] = []
        ends: list[str] = []
        try:
            for one in self._named(tenant):
                if every:
                    rows += await self._deciding.latest(one, "", LISTED_MAX)
                    continue
                found, end = await self._deciding.waiting_ones(one, after, LISTED_MAX)
                rows += found
                ends += [end] if end else []
        except StoreError as error:
            raise _of_the_store(error) from error
        rows.sort(key=lambda row: row.approval_id, reverse=every)
        if every:
            return {"approvals": [shown(row) for row in rows[:LISTED_MAX]], "next": ""}
        # Of several tenants up to where each has been looked at.
        until = min(ends, default="")
        rows = [row for row in rows if not until or row.approval_id <= until]
        return {"approvals": [shown(row) for row in rows], "next": until}

    async def show(self, approval_id: str, tenant: str) -> dict[str, Any]:
        """One of them, beside the one that was approved before it. Raises ApprovalCareRefused."""
        row = await self._found(approval_id, tenant, is_read=True)
        try:
            return compared_with(row, await self._deciding.granted_before(row))
        except StoreError as error:
            raise _of_the_store(error) from error

    async def act(
        self, verb: str, approval_id: str, tenant: str, uid: int, reason: str
    ) -> dict[str, Any]:
        """The approval after one of VERBS. Raises ApprovalCareRefused."""
        row = await self._found(approval_id, tenant)
        person = peer_person(row.tenant_id, uid)
        deciding = self._deciding
        acts = {
            "approve": deciding.approve, "reject": deciding.reject, "withdraw": deciding.withdraw,
        }  # fmt: skip
        try:
            return shown(await acts[verb](row.tenant_id, approval_id, person, reason))
        except ApprovalRefused as refused:
            raise _refused(refused) from refused
        except StoreError as error:
            raise _of_the_store(error) from error
        except Refused as refused:
            raise _of_the_fence(refused) from refused

    async def link(
        self, approval_id: str, tenant: str, uid: int, name: str, groups: Sequence[str]
    ) -> dict[str, Any]:
        """A link by which the named person decides on this one, as one of these groups of his, or
        of all if none is named; on record. Raises ApprovalCareRefused."""
        row = await self._found(approval_id, tenant, is_read=True)
        if not _NAME.fullmatch(name) or not all(map(_NAME.fullmatch, groups)):
            raise ApprovalCareRefused(
                "malformed_request",
                "a person and a group have a name",
                "Lower-case letters, digits and -; e.g. --for ana --group finance.",
            )
        if not self._url:
            raise ApprovalCareRefused(
                "no_listener", "nobody would answer a link here", "Use `approvals approve`."
            )
        if row.state != "pending":
            raise _refused(already(row.state))
        actor = peer_person(row.tenant_id, uid).actor
        try:
            known = await self.groups_of(row.tenant_id, name)
            if known is None:
                raise ApprovalCareRefused("unknown_person", *_UNKNOWN_PERSON)
            if not known.issuperset(groups):
                raise ApprovalCareRefused("not_in_group", *_NOT_IN_GROUP)
            link = await self._links.given(row, name, sorted(groups or known), actor)
        except StoreError as error:
            raise _of_the_store(error) from error
        except Refused as refused:
            raise _of_the_fence(refused) from refused
        return {"url": f"{self._url}{LINK_PATH}/{link}", "until_us": row.expires_at_us}

    async def groups_of(self, tenant: str, name: str) -> frozenset[str] | None:
        """The groups of an approver as he stands now; None if nobody of that name is one. Raises
        StoreError."""
        configured = self._configured.get(tenant)
        if configured is None:
            return None
        return groups_of_approver(name, configured.people, await self._keys(tenant))

    async def _found(self, approval_id: str, tenant: str, *, is_read: bool = False) -> ApprovalRow:
        """Ids are unique, so that the tenant need not be named; `is_read` says that somebody is to
        read what it asks."""
        refusal: ApprovalRefused | None = None
        look = self._deciding.show if is_read else self._deciding.found
        for one in self._named(tenant):
            try:
                return await look(one, approval_id)
            except ApprovalRefused as refused:
                if refused.code != "unknown_approval":
                    raise _refused(refused) from refused
                refusal = refused
            except StoreError as error:
                raise _of_the_store(error) from error
        raise _refused(refusal or ApprovalRefused("unknown_approval"))

    def _named(self, tenant: str) -> Sequence[str]:
        if tenant and tenant not in self._tenants:
            raise ApprovalCareRefused(
                "unknown_tenant",
                f"the configuration has no tenant {tenant!r}",
                f"There is {', '.join(self._tenants)}.",
            )
        return (tenant,) if tenant else self._tenants


def peer_person(tenant: str, uid: int) -> Person:
    """The person at the other end of control.sock."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Person(tenant, name, f"socket:{name}", frozenset({Role.ADMIN}))


def _refused(refused: ApprovalRefused) -> ApprovalCareRefused:
    return ApprovalCareRefused(refused.code, refused.title, refused.next_step)


def _of_the_fence(refused: Refused) -> ApprovalCareRefused:
    """The store is fenced, or does not record."""
    kind = refused.kind
    return ApprovalCareRefused(kind.code, kind.title, kind.next_step)


def _of_the_store(error: StoreError) -> ApprovalCareRefused:
    return ApprovalCareRefused(error.code, str(error), error.next_step)
