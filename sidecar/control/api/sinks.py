"""Sinks and deliveries: who is told, what waits, what was given up, and to have it tried again.

Knows: that sinks belong to the sidecar and deliveries to a tenant, so that a person sees of a sink
what it has of the own tenant; that neither a URL nor a secret is told.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from sidecar.control.api.paging import page_of, place, rows_wanted
from sidecar.control.api.parameters import Choice, Parameter, Text, in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.rooms import kept
from sidecar.control.api.route import (
    NAME_PATTERN,
    OPERATORS,
    READERS,
    Asked,
    Body,
    Line,
    Listed,
    Reason,
    Route,
    Shape,
)
from sidecar.control.sink_care import delivery_told, sinks_told
from sidecar.soc.deliveries import State
from storage.records import AFTER_ALL_IDS

ROOM: Final = "sinks"
READ_S: Final = 10.0


class SinkShape(Shape):
    """A sink, and what it has of this tenant. `kind` and `min_severity` are null of one that is no
    longer configured."""

    sink: str
    kind: str | None
    min_severity: str | None
    waiting: int
    dead: int
    oldest_waiting_us: int | None
    last_error: str


class DeliveryShape(Shape):
    """What a sink is told, was told, or could not be told. `body` is as it is kept: what is added
    when it is sent, a link to decide by, is not in it."""

    delivery_id: str
    tenant: str
    state: str
    sink: str
    kind: str
    severity: str
    attempts: int
    due_us: int
    said: str
    created_us: int
    changed_at_us: int
    body: Any


class Tested(Body):
    """Which sink."""

    sink: Line = Field(max_length=63, pattern=NAME_PATTERN)


class Retried(Reason):
    """Which sink, and why."""

    sink: Line = Field(max_length=63, pattern=NAME_PATTERN)


class RetriedShape(Shape):
    """How many are tried again."""

    retried: int


async def list_sinks(asked: Asked) -> list[dict[str, Any]]:
    """Every sink."""
    return await sinks_told(asked.rooms.reader, asked.rooms.config.sinks, [asked.tenant])


async def test_sink(asked: Asked) -> dict[str, Any]:
    """A test on its way; what becomes of it stands in the delivery."""
    changes = kept(asked.rooms.state.deliveries, "sinks")
    actor = asked.person.actor
    return delivery_told(await changes.test(asked.tenant, asked.body.sink, actor))


async def retry_sink(asked: Asked) -> dict[str, Any]:
    """All of a sink that was given up."""
    changes, said = kept(asked.rooms.state.deliveries, "sinks"), asked.body
    count = await changes.every_again(asked.tenant, said.sink, asked.person.actor, said.reason)
    return {"retried": count}


async def list_deliveries(asked: Asked) -> Listed:
    """Newest first."""
    state = asked.values["state"]
    rows = await asked.rooms.reader.deliveries_before(
        asked.tenant, place(asked, AFTER_ALL_IDS), rows_wanted(asked),
        state="" if state == "any" else state, sink=asked.values["sink"],
    )  # fmt: skip
    return page_of(rows, asked, delivery_told, lambda row: row.delivery_id)


async def get_delivery(asked: Asked) -> dict[str, Any]:
    """One delivery."""
    delivery_id = asked.values["delivery_id"]
    found = await asked.rooms.reader.delivery(asked.tenant, delivery_id)
    if found is None:
        raise not_found("delivery", delivery_id)
    return delivery_told(found)


async def retry_delivery(asked: Asked) -> dict[str, Any]:
    """One that was given up."""
    changes = kept(asked.rooms.state.deliveries, "sinks")
    delivery_id = asked.values["delivery_id"]
    if await asked.rooms.reader.delivery(asked.tenant, delivery_id) is None:
        raise not_found("delivery", delivery_id)
    actor, reason = asked.person.actor, asked.body.reason
    return delivery_told(await changes.again(asked.tenant, delivery_id, actor, reason))


DELIVERY: Final = in_path("delivery_id", "its id")
STATES: Final = ("any", *State)

ROUTES: Final = (
    Route(
        "list_sinks", "GET", "/v1/sinks", "Who is told, and what waits for them",
        READERS, list_sinks, list[SinkShape], time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "test_sink", "POST", "/v1/sinks/test", "Tells a sink something for a test, on record",
        OPERATORS, test_sink, DeliveryShape, body=Tested,
        problems=("not_found", "not_kept", "refused"), room=ROOM,
    ),
    Route(
        "list_deliveries", "GET", "/v1/deliveries", "What sinks are told, newest first",
        READERS, list_deliveries, list[DeliveryShape],
        (
            Parameter("state", Choice(STATES), "how it stands", "any"),
            Parameter("sink", Text(), "to this sink", ""),
        ),
        pages="cursor", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_delivery", "GET", "/v1/deliveries/{delivery_id}", "One delivery",
        READERS, get_delivery, DeliveryShape, (DELIVERY,),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "retry_delivery", "POST", "/v1/deliveries/{delivery_id}/retry",
        "Tries again one that was given up, on record",
        OPERATORS, retry_delivery, DeliveryShape, (DELIVERY,), body=Reason, is_body_optional=True,
        problems=("not_found", "not_kept", "refused"), room=ROOM,
    ),
    Route(
        "retry_sink", "POST", "/v1/sinks/retry",
        "Tries again what a sink could not be told, on record",
        OPERATORS, retry_sink, RetriedShape, body=Retried,
        problems=("not_found", "not_kept", "refused"), room=ROOM,
    ),
)  # fmt: skip
