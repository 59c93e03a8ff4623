"""What arguments of pinned tools are held against: made once, of what is pinned, and kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from test_ledger_pins import Node, SteppedClock, clock, node, store

from sidecar.ledger import pin_checks
from sidecar.ledger.pin_checks import AnyCheck
from sidecar.ledger.pin_keeper import AGE_MAX_S, PinsUnknown
from sidecar.ledger.tool_definition import Definition, definition_of
from sidecar.tool_schemas.check import Check, checked
from storage import SqlStore
from storage.errors import StoreUnavailable

__all__ = ["clock", "node", "store"]


def takes(kind: str, **more: Any) -> Definition:
    """A tool whose one argument is of that type."""
    schema = {"type": "object", "properties": {"a": {"type": kind, **more}}}
    return definition_of({"name": "add", "inputSchema": schema})


async def test_c11_a_check_is_made_once_and_is_of_the_pinned_schema(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(definition: str) -> AnyCheck:
        made.append(definition)
        return checked(definition)

    monkeypatch.setattr(pin_checks, "checked", counted)
    await node.lists(takes("integer"))
    await node.lists(takes("integer"), tenant="rival")
    assert made == [], "none is made of what nobody calls"
    assert await node.pins.check("acme", "calc", "mul") is None, "not pinned"
    both = [node.pins.check("acme", "calc", "add") for _ in range(2)]
    first, again = await asyncio.gather(*both)
    other = await node.pins.check("rival", "calc", "add")
    assert first is again is other and made == [takes("integer").text]
    assert isinstance(first, Check) and first.fits({"a": 1}, 9) and not first.fits({"a": "x"}, 9)
    known = node.pins.known("acme", "calc")
    assert known is not None and known.checks == {"add": first}
    await node.lists(takes("string"))
    assert await node.pins.check("acme", "calc", "add") is first, "drift changes no pin"
    await node.pins.accept("acme", "calc", await node.pins.pins("acme", "calc"), "")
    new = await node.pins.check("acme", "calc", "add")
    assert new is not None and new.fits({"a": "x"}, 9) and not new.fits({"a": 1}, 9)
    assert await node.pins.check("rival", "calc", "add") is first, "of another tenant"


async def test_c11_what_another_node_accepts_is_what_holds(
    store: SqlStore, clock: SteppedClock
) -> None:
    """Also where this one still goes by the old mark, and has to make the check of it."""
    first, second = (Node(store, clock, is_alone=False) for _ in range(2))
    try:
        await first.lists(takes("integer"))
        assert await second.pins.drifted("acme", "calc") == frozenset()
        await first.lists(takes("string"))
        await first.pins.accept("acme", "calc", await first.pins.pins("acme", "calc"), "")
        check = await second.pins.check("acme", "calc", "add")
        assert check is not None and check.fits({"a": "x"}, 9) and not check.fits({"a": 1}, 9)
        clock.advance_s(AGE_MAX_S + 0.1)
        assert second.pins.known("acme", "calc") is None
        assert await second.pins.check("acme", "calc", "add") is check, "the same one again"
    finally:
        for one in (first, second):
            await one.queue.close()


async def test_c11_a_check_that_cannot_be_read_is_none(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.lists(takes("integer"))

    async def fails(*_: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "tool_pin", fails)
        with pytest.raises(PinsUnknown, match="gone"):
            await node.pins.check("acme", "calc", "add")
    assert await node.pins.check("acme", "calc", "add") is not None, "positive control"


async def test_c11_checks_are_kept_up_to_a_number_and_a_length(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pin_checks, "CHECKS_MAX", 3)
    tools = [definition_of({"name": f"t{n}", "inputSchema": {"title": f"{n}"}}) for n in range(5)]
    await node.lists(*tools)
    made = [await node.pins.check("acme", "calc", one.tool) for one in tools]
    kept = node.pins.checks._kept
    assert list(kept) == [one.sha256 for one in tools[2:]]
    monkeypatch.setattr(pin_checks, "LENGTH_MAX", 2 * len(tools[0].text))
    await node.lists(tools[0], tenant="rival")
    again = await node.pins.check("rival", "calc", "t0")
    assert again is not None and again is not made[0], "made again"
    assert list(kept) == [tools[4].sha256, tools[0].sha256]


async def test_c11_a_tool_that_cannot_be_checked_is_told_once_and_counted_while_it_is(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    looping = definition_of({"name": "add", "inputSchema": {"$ref": "#"}})
    await node.lists(looping)
    for _ in range(2):
        await node.pins.check("acme", "calc", "add")
        node.pins.known("acme", "calc").checks.clear()  # type: ignore[union-attr]
    told = [one for one in caplog.records if "cannot be checked" in one.getMessage()]
    assert [(one.tool, one.reason) for one in told] == [  # type: ignore[attr-defined]
        ("calc/add", "a $ref leads back to itself"),
    ]
    assert node.pins.checks.unchecked_by_upstream() == {"calc": 1}
    await node.lists(takes("integer"))
    await node.pins.accept("acme", "calc", await node.pins.pins("acme", "calc"), "")
    await node.pins.check("acme", "calc", "add")
    assert node.pins.checks.unchecked_by_upstream() == {"calc": 0}
