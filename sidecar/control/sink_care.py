"""Sinks over control.sock: how they stand, what was given up, and what is to be tried again.

Knows: the tenants of the configuration; that a change is on record as the user's at the other end.
Must not know: HTTP, the command line, how a sink is reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import orjson

from sidecar.errors import Refused
from sidecar.soc.deliveries import State
from sidecar.soc.delivery_changes import DeliveryChanges, DeliveryRefused
from sidecar.soc.model import Severity
from storage.errors import StoreError
from storage.records import AFTER_ALL_IDS
from storage.watch_rows import DeliveryRow, OpenDeliveries

if TYPE_CHECKING:
    from sidecar.config.model import Config, Sink

T = TypeVar("T")

#: So many are listed at once.
LISTED_MAX: Final = 200
#: Of those that wait the newest so many are looked at for what was said last.
LOOKED_AT_MAX: Final = 20


class SinkCareRefused(Exception):
    """What was asked is refused: `code` is stable, `next_step` says what to do."""

    def __init__(self, code: str, title: str, next_step: str) -> None:
        super().__init__(title)
        self.code = code
        self.title = title
        self.next_step = next_step


class ReadsDeliveries(Protocol):
    """What is needed of a store."""

    async def delivery(self, tenant_id: str, delivery_id: str) -> DeliveryRow | None:
        """One of them."""
        ...

    async def deliveries_before(
        self, tenant_id: str, before_id: str, limit: int, *, state: str = "", sink: str = ""
    ) -> list[DeliveryRow]:
        """Newest first."""
        ...

    async def count_open_deliveries(self, tenant_id: str) -> list[OpenDeliveries]:
        """How many wait, and how many are given up, by sink."""
        ...


async def sinks_told(
    reader: ReadsDeliveries, sinks: Mapping[str, Sink], tenants: Sequence[str]
) -> list[dict[str, Any]]:
    """How each sink stands with these tenants; those that are gone too, while something is left of
    theirs. Raises StoreError."""
    found = {name: _untold(name, one) for name, one in sinks.items()}
    for tenant in tenants:
        for count in await reader.count_open_deliveries(tenant):
            one = found.setdefault(count.sink, _untold(count.sink, None))
            one[count.state] += count.deliveries
            if count.state == State.WAITING:
                known = one["oldest_waiting_us"]
                one["oldest_waiting_us"] = min(known or count.oldest_us, count.oldest_us)
            one["last_error"] = one["last_error"] or await _last_said(reader, tenant, count)
    return list(found.values())


def _untold(name: str, sink: Sink | None) -> dict[str, Any]:
    """A sink with nothing on its way."""
    return {
        "sink": name,
        "kind": sink.kind if sink is not None else None,
        "min_severity": sink.min_severity if sink is not None else None,
        "waiting": 0,
        "dead": 0,
        "oldest_waiting_us": None,
        "last_error": "",
    }


async def _last_said(reader: ReadsDeliveries, tenant: str, count: OpenDeliveries) -> str:
    rows = await reader.deliveries_before(
        tenant, AFTER_ALL_IDS, LOOKED_AT_MAX, state=count.state, sink=count.sink
    )
    said = [row for row in rows if row.said]
    return max(said, key=lambda row: row.changed_at_us).said if said else ""


def delivery_told(row: DeliveryRow) -> dict[str, Any]:
    """A delivery as plain values."""
    return {
        "delivery_id": row.delivery_id,
        "tenant": row.tenant_id,
        "state": row.state,
        "sink": row.sink,
        "kind": row.kind,
        "severity": Severity(row.severity).label,
        "attempts": row.attempts,
        "due_us": row.due_us,
        "said": row.said,
        "created_us": row.created_us,
        "changed_at_us": row.changed_at_us,
        "body": orjson.loads(row.body),
    }


class SinkCare:
    """For the tenants of one sidecar."""

    def __init__(self, config: Config, reader: ReadsDeliveries, changes: DeliveryChanges) -> None:
        self._sinks = config.sinks
        self._tenants = tuple(config.tenants)
        self._reader = reader
        self._changes = changes

    async def list(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Every sink. Raises SinkCareRefused."""
        tenants = self._named(asked)
        return {"sinks": await _answered(sinks_told(self._reader, self._sinks, tenants))}

    async def dead(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What was given up, newest first. Raises SinkCareRefused."""
        sink = _text(asked, "sink")
        rows: list[DeliveryRow] = []
        for tenant in self._named(asked):
            rows += await _answered(
                self._reader.deliveries_before(
                    tenant, AFTER_ALL_IDS, LISTED_MAX, state=State.DEAD.value, sink=sink
                )
            )
        rows.sort(key=lambda row: row.delivery_id, reverse=True)
        return {"deliveries": [delivery_told(row) for row in rows[:LISTED_MAX]]}

    async def show(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One delivery. Raises SinkCareRefused."""
        delivery_id = _text(asked, "id")
        for tenant in self._named(asked):
            row = await _answered(self._reader.delivery(tenant, delivery_id))
            if row is not None:
                return delivery_told(row)
        raise _refused(DeliveryRefused("unknown_delivery"))

    async def test(self, asked: Mapping[str, Any], actor: str) -> dict[str, Any]:
        """A test on its way. Raises SinkCareRefused."""
        tenant = self._named(asked)[0]
        return delivery_told(
            await _answered(self._changes.test(tenant, _text(asked, "sink"), actor))
        )

    async def retry(self, asked: Mapping[str, Any], actor: str) -> dict[str, Any]:
        """One, by `id`, or all of a `sink`, are tried again. Raises SinkCareRefused."""
        delivery_id, sink = _text(asked, "id"), _text(asked, "sink")
        reason = _text(asked, "reason")
        if sink:
            return {"retried": await self._every_again(self._named(asked), sink, actor, reason)}
        tenant = (await self.show(asked))["tenant"]
        await _answered(self._changes.again(tenant, delivery_id, actor, reason))
        return {"retried": 1}

    async def _every_again(self, tenants: Sequence[str], sink: str, actor: str, reason: str) -> int:
        """Of all these tenants; a sink that is gone may have left something with one of them."""
        count, refusals = 0, []
        for tenant in tenants:
            try:
                count += await _answered(self._changes.every_again(tenant, sink, actor, reason))
            except SinkCareRefused as refused:
                if refused.code != "unknown_sink":
                    raise
                refusals.append(refused)
        if len(refusals) == len(tenants):
            raise refusals[0]
        return count

    def _named(self, asked: Mapping[str, Any]) -> Sequence[str]:
        tenant = _text(asked, "tenant")
        if tenant and tenant not in self._tenants:
            raise SinkCareRefused(
                "unknown_tenant",
                f"the configuration has no tenant {tenant!r}",
                f"There is {', '.join(self._tenants)}.",
            )
        return (tenant,) if tenant else self._tenants


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    return value if isinstance(value, str) else ""


async def _answered(work: Awaitable[T]) -> T:
    """What it gives; raises SinkCareRefused for what a room below refuses."""
    try:
        return await work
    except DeliveryRefused as refused:
        raise _refused(refused) from refused
    except StoreError as error:
        raise SinkCareRefused(error.code, str(error), error.next_step) from error
    except Refused as refused:  # the store is fenced
        kind = refused.kind
        raise SinkCareRefused(kind.code, kind.title, kind.next_step) from refused


def _refused(refused: DeliveryRefused) -> SinkCareRefused:
    return SinkCareRefused(refused.code, refused.title, refused.next_step)
