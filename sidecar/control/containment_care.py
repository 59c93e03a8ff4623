"""Containments over control.sock: begun, shown and undone by whoever runs this sidecar.

Knows: that who asks there is an admin: he could change the rules as well; that ids are unique, so
that the tenant need not be named to find one.
Must not know: HTTP, the command line, what a containment does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.identity.changes import ChangeRefused
from sidecar.identity.containing import Containing, Contains
from sidecar.identity.containment_words import read_wanted, shown_containment
from storage.errors import StoreError
from storage.records import AFTER_ALL_IDS
from storage.watch_rows import ContainmentRow

if TYPE_CHECKING:
    from collections.abc import Sequence

#: So many are listed at once.
LISTED_MAX: Final = 200

Asked = Mapping[str, Any]


class Reads(Protocol):
    """What is needed of a store."""

    async def containment(self, tenant_id: str, containment_id: str) -> ContainmentRow | None:
        """One containment, in any state."""
        ...

    async def containments_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", action: str = ""
    ) -> list[ContainmentRow]:
        """Containments, newest first."""
        ...


class ContainmentCare:
    """For the tenants of one sidecar."""

    def __init__(self, tenants: Sequence[str], containing: Containing, store: Reads) -> None:
        self._tenants = tuple(tenants)
        self._containing = containing
        self._store = store

    async def begin(self, asked: Asked, actor: str) -> dict[str, Any]:
        """Contains something. Raises ChangeRefused."""
        for_s = asked.get("for_s", 0)
        if isinstance(for_s, bool) or not isinstance(for_s, int | float):
            raise ChangeRefused("bad_expiry", "`for_s` is a number of seconds")
        wanted = read_wanted(
            self._tenant(asked), _text(asked, "action"), _text(asked, "subject"),
            _text(asked, "agent"), actor=actor, for_s=for_s, reason=_text(asked, "reason"),
            incident_id=_text(asked, "incident"),
        )  # fmt: skip
        return told(await self._containing.contain(wanted))

    async def list(self, asked: Asked) -> dict[str, Any]:
        """The active ones; with `all` those in any state; the newest first, of those before an id
        if one is named. Raises ChangeRefused."""
        state = "" if asked.get("all") is True else "active"
        rows: list[ContainmentRow] = []
        try:
            for tenant in self._named(asked):
                rows += await self._store.containments_before(
                    tenant, _text(asked, "before") or AFTER_ALL_IDS, LISTED_MAX + 1, state=state
                )
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        rows.sort(key=lambda row: row.containment_id, reverse=True)
        shown = [shown_containment(row) for row in rows[:LISTED_MAX]]
        return {"containments": shown, "has_more": len(rows) > LISTED_MAX}

    async def show(self, asked: Asked) -> dict[str, Any]:
        """One of them. Raises ChangeRefused."""
        return shown_containment(await self._found(asked))

    async def undo(self, asked: Asked, actor: str) -> dict[str, Any]:
        """Ends one. Raises ChangeRefused."""
        row = await self._found(asked)
        return told(
            await self._containing.undo(
                row.tenant_id, row.containment_id, actor=actor, reason=_text(asked, "reason")
            )
        )

    async def _found(self, asked: Asked) -> ContainmentRow:
        containment_id = _text(asked, "id")
        try:
            for tenant in self._named(asked):
                row = await self._store.containment(tenant, containment_id)
                if row is not None:
                    return row
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        raise ChangeRefused(
            "unknown_containment",
            f"there is no containment {containment_id!r}",
            "`containments list --all` shows them.",
        )

    def _named(self, asked: Asked) -> tuple[str, ...]:
        named = _text(asked, "tenant")
        if named and named not in self._tenants:
            raise ChangeRefused(
                "unknown_tenant", f"there is no tenant {named!r}", "Tenants stand in sidecar.yaml."
            )
        return (named,) if named else self._tenants

    def _tenant(self, asked: Asked) -> str:
        named = self._named(asked)
        if len(named) != 1:
            raise ChangeRefused(
                "ambiguous_tenant",
                f"there are several tenants: {', '.join(named)}",
                "Name one with --tenant.",
            )
        return named[0]


def told(done: Contains) -> dict[str, Any]:
    """A containment after a change, as people and programs read it."""
    return shown_containment(done.row) | {
        "seq": done.seq,
        "agent_state": done.agent_state or None,
        "remark": done.remark or None,
    }


def _text(asked: Asked, name: str) -> str:
    value = asked.get(name)
    return value if isinstance(value, str) else ""
