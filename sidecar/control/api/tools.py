"""Tools: what the catalogue says of them, what their servers' definitions were pinned to, and
which have drifted since.

Knows: that the catalogue is the same for all tenants and pins are each tenant's own.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from sidecar.control.api.paging import page_of, place
from sidecar.control.api.parameters import Flag, Parameter, Text
from sidecar.control.api.problems import not_found
from sidecar.control.api.rooms import kept
from sidecar.control.api.route import OPERATORS, READERS, Asked, Body, Line, Listed, Route, Shape
from sidecar.control.tool_care import drift_told
from sidecar.policy.catalogue import Entry
from storage.standing import PinMark, PinRow

ROOM: Final = "tools"
READ_S: Final = 10.0


class PinShape(Shape):
    """What a definition was pinned to, by hash; `seen_sha256` is what the server says since."""

    version: int
    sha256: str
    has_drifted: bool
    seen_sha256: str | None


class ToolShape(Shape):
    """A tool. One that no catalogue declares, and that a server has named, has nulls."""

    name: str
    upstream: str
    operation: str
    declared: bool
    mutates: bool | None
    risk: str | None
    labels: list[str]
    returns: str | None
    route: str | None
    pin: PinShape | None


class DriftShape(Shape):
    """A tool whose definition is not what it was pinned to; both are JSON texts."""

    tenant: str
    upstream: str
    tool: str
    pinned: str
    pinned_sha256: str
    pinned_us: int
    seen: str
    seen_sha256: str
    seen_us: int


class DriftsShape(Shape):
    """What has drifted; of very many tools only the first are told of."""

    pinned: int
    drifted: int
    tools: list[DriftShape]


class Acceptance(Body):
    """What is taken over: these tools of an upstream (all that drifted, if none is named), if the
    hash of what was last seen begins with `seen`."""

    upstream: Line = Field(min_length=1, max_length=256)
    tools: list[Line] | None = Field(None, max_length=256)
    seen: str = Field("", pattern="^[0-9a-f]{0,64}$")
    reason: Line = Field("", max_length=1024)


class AcceptedShape(Shape):
    """The hashes that were taken over, by tool, and the receipt that says so."""

    tenant: str
    upstream: str
    accepted: dict[str, str]
    seq: int | None = None


class Forgetting(Body):
    """Which tools of an upstream are to be unpinned: these, or with null all of them. None may have
    drifted."""

    upstream: Line = Field(min_length=1, max_length=256)
    tools: list[Line] | None = Field(max_length=2048)
    reason: Line = Field("", max_length=1024)


class ForgottenShape(Shape):
    """The hashes that were pinned, by tool, and the receipt that says so. What a list says of such
    a tool next is first seen, and pinned."""

    tenant: str
    upstream: str
    forgotten: dict[str, str]
    seq: int | None = None


async def list_tools(asked: Asked) -> Listed:
    """By name."""
    values, upstreams = asked.values, asked.rooms.config.upstreams
    wanted = [name for name in upstreams if values["upstream"] in ("", name)]
    if values["upstream"] and not wanted:
        raise not_found("upstream", values["upstream"])
    entries = asked.rooms.policies.current.catalogue.entries
    tools = {one.tool.name: _told(one) for one in entries if one.tool.upstream in wanted}
    for upstream in wanted:
        if upstreams[upstream].kind == "mcp":
            for mark in await asked.rooms.reader.tool_marks(asked.tenant, upstream):
                name = f"{upstream}/{mark.tool}"
                tools[name] = {**tools.get(name, _undeclared(upstream, mark.tool)),
                               "pin": _pin(mark)}  # fmt: skip
    after = place(asked, "")
    names = sorted(
        name
        for name, one in tools.items()
        if name > after
        and (not values["drifted"] or (one["pin"] is not None and one["pin"]["has_drifted"]))
    )
    return page_of(names, asked, tools.__getitem__, str)


def _told(one: Entry) -> dict[str, Any]:
    tool = one.tool
    return {
        "name": tool.name, "upstream": tool.upstream, "operation": tool.operation,
        "declared": tool.declared, "mutates": tool.mutates, "risk": tool.risk.label,
        "labels": list(tool.labels), "returns": tool.returns.label, "route": one.route,
        "pin": None,
    }  # fmt: skip


def _undeclared(upstream: str, operation: str) -> dict[str, Any]:
    return {
        "name": f"{upstream}/{operation}", "upstream": upstream, "operation": operation,
        "declared": False, "mutates": None, "risk": None, "labels": [], "returns": None,
        "route": None,
    }  # fmt: skip


def _pin(mark: PinMark) -> dict[str, Any]:
    return {
        "version": mark.version,
        "sha256": mark.sha256,
        "has_drifted": bool(mark.seen_sha256),
        "seen_sha256": mark.seen_sha256 or None,
    }


async def get_drift(asked: Asked) -> dict[str, Any]:
    """What has drifted, with both definitions."""
    named = asked.values["upstream"]
    servers = [
        name
        for name, one in asked.rooms.config.upstreams.items()
        if one.kind == "mcp" and named in ("", name)
    ]
    if named and not servers:
        raise not_found("MCP upstream", named)
    pins = [pin for name in servers for pin in await _pins(asked, name)]
    return drift_told(len(pins), [pin for pin in pins if pin.seen_sha256])


async def _pins(asked: Asked, upstream: str) -> list[PinRow]:
    return await asked.rooms.reader.tool_pins(asked.tenant, upstream)


async def accept_tools(asked: Asked) -> dict[str, Any]:
    """Takes over what a server says of its tools, on record."""
    care, said = kept(asked.rooms.state.tools, "definitions of tools"), asked.body
    return await care.accept(
        said.upstream, said.tools, asked.tenant, said.seen, said.reason, actor=asked.person.actor
    )


async def forget_tools(asked: Asked) -> dict[str, Any]:
    """Unpins tools, on record."""
    care, said = kept(asked.rooms.state.tools, "definitions of tools"), asked.body
    return await care.forget(
        said.upstream, said.tools, asked.tenant, said.reason, actor=asked.person.actor
    )


ROUTES: Final = (
    Route(
        "list_tools", "GET", "/v1/tools", "The catalogue and what is pinned of it, by name",
        READERS, list_tools, list[ToolShape],
        (
            Parameter("upstream", Text(), "of this upstream", ""),
            Parameter("drifted", Flag(), "only those that have drifted", False),
        ),
        pages="cursor", problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_drift", "GET", "/v1/tools/drift", "What has drifted, with both definitions",
        READERS, get_drift, DriftsShape, (Parameter("upstream", Text(), "of this upstream", ""),),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "accept_tools", "POST", "/v1/tools/accept",
        "Takes over what a server says of its tools, on record",
        OPERATORS, accept_tools, AcceptedShape, body=Acceptance,
        problems=("not_found", "not_kept", "refused"), room=ROOM,
    ),
    Route(
        "forget_tools", "POST", "/v1/tools/forget",
        "Unpins tools of a server: what it says of them next is first seen; on record",
        OPERATORS, forget_tools, ForgottenShape, body=Forgetting,
        problems=("not_found", "not_kept", "refused"), room=ROOM,
    ),
)  # fmt: skip
