"""Alerts and incidents over control.sock: looked at and moved by whoever the machine lets in.

Knows: that ids are unique, so that a tenant need not be named; what is listed at once.
Must not know: HTTP, the command line, how a move is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.soc.alert_states import Move
from sidecar.soc.incident_shown import shown_alert, shown_incident
from sidecar.soc.incidents import IncidentRefused, alerts_of, unknown_alert, unknown_incident
from storage.errors import StoreError
from storage.records import AFTER_ALL_IDS

if TYPE_CHECKING:
    from sidecar.soc.incidents import Incidents
    from storage.watch_rows import AlertRow, IncidentRow

T = TypeVar("T")

#: So many are listed at once, the newest.
LISTED_MAX: Final = 200

Asked = Mapping[str, Any]


class IncidentCare:
    """For the tenants of one sidecar."""

    def __init__(self, incidents: Incidents, tenants: Iterable[str]) -> None:
        self._incidents = incidents
        self._reader = incidents.reader
        self._tenants = tuple(tenants)

    async def alerts(self, asked: Asked) -> dict[str, Any]:
        """The newest alerts, of those before an id if one is named. Raises IncidentRefused."""
        rows: list[AlertRow] = []
        for tenant in self._named(asked):
            rows += await _read(
                self._reader.alerts_before(
                    tenant, _before(asked), LISTED_MAX + 1, state=_text(asked, "state"),
                    severity=_text(asked, "severity"), agent=_text(asked, "agent"),
                    detection=_text(asked, "detection"),
                )
            )  # fmt: skip
        rows.sort(key=lambda row: row.alert_id, reverse=True)
        shown = [shown_alert(row) for row in rows[:LISTED_MAX]]
        return {"alerts": shown, "has_more": len(rows) > LISTED_MAX}

    async def incidents(self, asked: Asked) -> dict[str, Any]:
        """The newest incidents, of those before an id if one is named. Raises IncidentRefused."""
        rows: list[IncidentRow] = []
        for tenant in self._named(asked):
            rows += await _read(
                self._reader.incidents_before(
                    tenant, _before(asked), LISTED_MAX + 1, state=_text(asked, "state"),
                    severity=_text(asked, "severity"), agent=_text(asked, "agent"),
                )
            )  # fmt: skip
        rows.sort(key=lambda row: row.incident_id, reverse=True)
        shown = [shown_incident(row) for row in rows[:LISTED_MAX]]
        return {"incidents": shown, "has_more": len(rows) > LISTED_MAX}

    async def alert(self, asked: Asked) -> dict[str, Any]:
        """One alert. Raises IncidentRefused."""
        return shown_alert(await self._alert(asked))

    async def incident(self, asked: Asked) -> dict[str, Any]:
        """One incident with its alerts. Raises IncidentRefused."""
        row = await self._incident(asked)
        alerts = await _read(alerts_of(self._reader, row.tenant_id, row.incident_id))
        return shown_incident(row, alerts)

    async def move_alert(self, asked: Asked, actor: str) -> dict[str, Any]:
        """An alert that was moved. Raises IncidentRefused."""
        row = await self._alert(asked)
        moved = await self._incidents.move_alert(
            row.tenant_id, row.alert_id, _move(asked), actor=actor, text=_text(asked, "reason")
        )
        return {**shown_alert(moved.alert), "seq": moved.seq}

    async def move_incident(self, asked: Asked, actor: str) -> dict[str, Any]:
        """An incident that was moved. Raises IncidentRefused."""
        row = await self._incident(asked)
        moved = await self._incidents.move_incident(
            row.tenant_id, row.incident_id, _move(asked), actor=actor, text=_text(asked, "reason")
        )
        return {**shown_incident(moved.incident), "seq": moved.seq}

    async def _alert(self, asked: Asked) -> AlertRow:
        name = _text(asked, "id")
        found = await self._first(asked, lambda tenant: self._reader.alert(tenant, name))
        if found is None:
            raise unknown_alert(name)
        return found

    async def _incident(self, asked: Asked) -> IncidentRow:
        name = _text(asked, "id")
        found = await self._first(asked, lambda tenant: self._reader.incident(tenant, name))
        if found is None:
            raise unknown_incident(name)
        return found

    async def _first(self, asked: Asked, read: Callable[[str], Awaitable[T | None]]) -> T | None:
        for tenant in self._named(asked):
            found = await _read(read(tenant))
            if found is not None:
                return found
        return None

    def _named(self, asked: Asked) -> Sequence[str]:
        tenant = _text(asked, "tenant")
        if tenant and tenant not in self._tenants:
            raise IncidentRefused(
                "unknown_tenant",
                f"the configuration has no tenant {tenant!r}",
                f"There is {', '.join(self._tenants)}.",
            )
        return (tenant,) if tenant else self._tenants


async def _read(work: Awaitable[T]) -> T:
    try:
        return await work
    except StoreError as error:
        raise IncidentRefused(error.code, str(error), error.next_step) from error


def _move(asked: Asked) -> Move:
    try:
        return Move(_text(asked, "move"))
    except ValueError:
        raise IncidentRefused(
            "malformed_request", "there is no such move", "acknowledge, note or close."
        ) from None


def _before(asked: Asked) -> str:
    return _text(asked, "before") or AFTER_ALL_IDS


def _text(asked: Asked, name: str) -> str:
    value = asked.get(name)
    return value if isinstance(value, str) else ""
