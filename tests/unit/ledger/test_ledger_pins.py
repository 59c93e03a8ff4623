"""Definitions of tools: their hash, their pins, what becomes of a difference; over a real store."""

from __future__ import annotations

import asyncio
import json
import math
import random
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from ledger_setup import SteadyClock

from sidecar.ledger.canonical import NotCanonical
from sidecar.ledger.chain import seal
from sidecar.ledger.fence import Fence, Standing
from sidecar.ledger.jcs import jcs
from sidecar.ledger.pin_entries import ACCEPTED, DRIFTED, PINNED, RETURNED
from sidecar.ledger.pin_keeper import AGE_MAX_S, TOOLS_MAX, PinKeeper, PinsUnknown
from sidecar.ledger.tool_definition import Definition, definition_of
from storage import SqlStore, open_store
from storage.errors import StoreUnavailable
from storage.write_queue import WriteQueue

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda below: (
        st.lists(below) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), below)
    ),
)


@given(VALUES)
def test_c12_a_definition_has_the_form_of_rfc_8785(value: Any) -> None:
    assert jcs(value) == rfc8785.dumps(value)


def test_c12_numbers_are_written_as_the_oracle_writes_them() -> None:
    source = random.Random(8785)
    numbers = [1.0, -0.0, 1e21, 1e20, 1e-6, 1e-7, 5e-324, 1.5e300, 0.5, -12.25, 1e16, 123456.75]
    while len(numbers) < 5000:
        (number,) = struct.unpack("d", source.randbytes(8))
        if math.isfinite(number):
            numbers.append(number)
    assert [jcs(number) for number in numbers] == [rfc8785.dumps(number) for number in numbers]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, [2**53 + 1], {1: 2}, "\ud800", [{"\ud800": 1}]]
)
def test_what_has_no_canonical_form_is_said_so(value: Any) -> None:
    with pytest.raises(NotCanonical):
        jcs(value)


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**63 - 1, -(2**63), 2**64 - 1])
def test_c12_integers_of_64_bits_have_all_their_digits_where_they_may(number: int) -> None:
    """Next to each other they would be one number to RFC 8785, and one pin."""
    for value, text in (([number], f"[{number}]"), ({"é": number, "f": 0.5}, None)):
        made = jcs(value, has_long_integers=True).decode()
        assert made == (text or f'{{"f":0.5,"é":{number}}}')
    with pytest.raises(NotCanonical):
        jcs([number])
    with pytest.raises(NotCanonical):
        jcs([number * 2**12], has_long_integers=True)


def test_c12_every_member_a_model_or_client_goes_by_is_pinned_and_no_other() -> None:
    tool: dict[str, Any] = {
        "name": "add", "title": "Add", "description": "Adds.", "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True},
    }  # fmt: skip
    before = definition_of(tool)
    for member in tool:
        changed = definition_of({**tool, member: "other"})
        assert changed.sha256 != before.sha256, member
        assert member == "name" or changed.tool == "add"
    same = {**dict(reversed(tool.items())), "icons": [1], "_meta": {"a": 1}, "execution": {}}
    assert definition_of(same) == before
    assert definition_of({**tool, "title": None}) == definition_of(
        {name: value for name, value in tool.items() if name != "title"}
    )


# -- pins ------------------------------------------------------------------------------------


WHAT = (DRIFTED, RETURNED, ACCEPTED, PINNED)


class SteppedClock(SteadyClock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.ns = 1

    def monotonic_ns(self) -> int:
        return self.ns

    def advance_s(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


class Node:
    """One process on the store: its queue, and what it knows of pins."""

    def __init__(self, store: SqlStore, clock: SteppedClock, *, is_alone: bool = True) -> None:
        self.store = store
        self.clock = clock
        self.fence = Fence()
        self.queue = WriteQueue(
            store, seal, capacity=64, wait_s=5.0, monotonic_ns=clock.monotonic_ns
        )
        self.pins = PinKeeper(store, self.queue, clock, self.fence, is_alone=is_alone)

    async def lists(self, *tools: Definition, tenant: str = "acme") -> list[str]:
        """What has drifted once a list said this."""
        return sorted(await self.pins.compare(tenant, "coder", "calc", tools, "call-1"))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest_asyncio.fixture
async def store(tmp_path: Path, clock: SteppedClock) -> AsyncIterator[SqlStore]:
    opened = await open_store(f"sqlite:///{tmp_path}/store.db", now_us=clock.now_us)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def node(store: SqlStore, clock: SteppedClock) -> AsyncIterator[Node]:
    one = Node(store, clock)
    yield one
    await one.queue.close()


def known_drifted(node: Node, tenant: str = "acme") -> frozenset[str]:
    """What is known without asking the store."""
    known = node.pins.known(tenant, "calc")
    assert known is not None
    return known.drifted


def said(tool: str, description: str = "as ever") -> Definition:
    return definition_of({"name": tool, "description": description})


async def actions(store: SqlStore) -> list[tuple[str | None, str | None, dict[str, Any]]]:
    """Action, tool and arguments of the receipts so far."""
    found = []
    for row in await store.receipts("acme", 0, 100):
        facts = await store.call_facts("acme", row.seq)
        assert facts is not None and facts.arguments is not None
        assert (row.kind, row.upstream) == ("control", "calc")
        found.append((row.action, row.tool, json.loads(facts.arguments)))
    return found


async def test_c12_what_is_first_seen_is_pinned_once_and_on_record(node: Node) -> None:
    assert await node.lists(said("add"), said("mul")) == []
    assert await node.lists(said("add"), said("mul")) == []
    assert [(row.tool, row.version) for row in await node.pins.pins("acme", "calc")] == [
        ("add", 1), ("mul", 1),
    ]  # fmt: skip
    hashes = {"add": said("add").sha256, "mul": said("mul").sha256}
    assert await actions(node.store) == [
        ("tools.pinned", None, {"call_id": "call-1", "pinned": hashes})
    ]


async def test_c12_a_difference_is_drift_until_it_is_accepted(node: Node) -> None:
    await node.lists(said("add"), said("mul"))
    other = said("add", "and sends it on")
    assert await node.lists(other, said("mul")) == ["add"]
    assert await node.lists(other) == ["add"], "found once, recorded once"
    assert await node.lists(said("mul")) == ["add"], "a page without it heals nothing"
    assert known_drifted(node) == {"add"}
    assert node.pins.drifts_total == {"calc": 1}
    assert node.pins.drifted_by_upstream() == {"calc": 1}
    rows = [row for row in await node.pins.pins("acme", "calc") if row.seen]
    assert [(row.definition, row.seen) for row in rows] == [(said("add").text, other.text)]
    await node.pins.accept("acme", "calc", rows, "asked")
    assert known_drifted(node) == frozenset()
    assert await node.lists(other) == []
    assert await node.lists(said("add")) == ["add"], "what was is the difference now"
    told = [(action, tool) for action, tool, _ in await actions(node.store)]
    assert told == [
        ("tools.pinned", None), ("tools.drifted", "calc/add"), ("tools.accepted", "calc/add"),
        ("tools.drifted", "calc/add"),
    ]  # fmt: skip
    assert (await actions(node.store))[2][2] == {
        "accepted": {"add": other.sha256},
        "actor": "socket",
        "before": {"add": said("add").sha256},
        "reason": "asked",
    }


async def test_c12_what_clients_of_two_eras_are_told_is_no_drift_and_a_change_of_it_is_one(
    node: Node,
) -> None:
    """SDKs say an outputSchema that is no object's to clients before 2026-07-28 as a member of
    one: two agents behind one sidecar, and the tool would be refused to both for ever."""

    def told(schema: Any, older: bool) -> Definition:
        if older:
            members = {"result": schema}
            schema = {"type": "object", "properties": members, "required": ["result"]}
        return definition_of({"name": "ids", "outputSchema": schema})

    ids, more = {"type": "array", "items": {"type": "number"}}, {"type": "array"}
    for older in (True, False, True):
        assert await node.lists(told(ids, older)) == []
    for older in (False, True):
        assert await node.lists(told(more, older)) == ["ids"]
    assert await node.lists(told(ids, False)) == []
    assert [action for action, _, _ in await actions(node.store)] == [
        "tools.pinned", "tools.drifted", "tools.returned",
    ]  # fmt: skip


async def test_c12_what_is_said_as_before_is_no_drift_any_more_and_that_is_on_record(
    node: Node,
) -> None:
    await node.lists(said("add"))
    assert await node.lists(said("add", "other")) == ["add"]
    assert await node.lists(said("add", "third")) == ["add"]
    assert await node.lists(said("add")) == []
    assert [action for action, _, _ in await actions(node.store)] == [
        "tools.pinned", "tools.drifted", "tools.drifted", "tools.returned",
    ]  # fmt: skip


async def test_g10_what_becomes_of_a_definition_is_audited_whoever_did_it(node: Node) -> None:
    """Before and after, by the one who acted; the receipt commits to all of it."""
    one, two, store = said("add"), said("add", "other"), node.store
    await node.lists(one)
    await node.lists(two)
    await node.lists(one, said("mul"))
    await node.lists(two)
    (drifted,) = [row for row in await node.pins.pins("acme", "calc") if row.seen]
    await node.pins.accept("acme", "calc", [drifted], "looked at it", "person:ana")
    events = (await store.audit_events("acme", 99, 99))[::-1]

    assert [
        (row.actor, row.action, json.loads(row.before_state or "null"), json.loads(row.after_state))
        for row in events
    ] == [
        ("sidecar", "tools.pinned", None, {"add": one.sha256}),
        ("sidecar", "tools.drifted", {"add": one.sha256}, {"add": two.sha256}),
        (
            "sidecar", "tools.returned",
            {"add": two.sha256}, {"add": one.sha256, "mul": said("mul").sha256},
        ),
        ("sidecar", "tools.drifted", {"add": one.sha256}, {"add": two.sha256}),
        ("person:ana", "tools.accepted", {"add": one.sha256}, {"add": two.sha256}),
    ]  # fmt: skip
    receipts = await store.receipts("acme", 0, 99)
    assert [(row.seq, row.action, row.approver) for row in receipts] == [
        (row.seq, row.action, row.actor) for row in events
    ]
    for row, (_, _, arguments) in zip(events, await actions(store), strict=True):
        assert arguments.get("before") == json.loads(row.before_state or "null")
        assert arguments.get("reason", "") == row.reason
        for tool, became in json.loads(row.after_state).items():
            what = next(name for name, tools in arguments.items() if name in WHAT and tool in tools)
            assert arguments[what][tool] == became


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_c12_a_name_for_two_tools_is_drift_whichever_comes_first(
    node: Node, order: Sequence[int]
) -> None:
    both = [said("add"), said("add", "shadow")]
    assert await node.lists(*(both[position] for position in order)) == ["add"]
    assert await node.lists(*(both[position] for position in order)) == ["add"]
    assert len(await actions(node.store)) == 2


async def test_c12_tenants_have_pins_of_their_own(node: Node) -> None:
    await node.lists(said("add"))
    assert await node.lists(said("add", "other"), tenant="rival") == []
    assert await node.lists(said("add", "other")) == ["add"]
    assert known_drifted(node, "rival") == frozenset()


async def test_c12_many_that_list_at_once_pin_once(node: Node) -> None:
    lists = [node.lists(said("add"), said("mul")) for _ in range(20)]
    assert await asyncio.gather(*lists) == [[]] * 20
    assert len(await actions(node.store)) == 1


async def test_c12_what_is_forgotten_is_new_when_it_is_seen_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.ledger.pin_keeper.TOOLS_MAX", 2)
    assert await node.lists(said("add"), said("mul"), said("sub")) == ["sub"], "there is no room"
    rows = await node.pins.pins("acme", "calc")
    assert await node.pins.forget("acme", "calc", rows[:1], "gone", "socket:ana") == 2
    assert await node.lists(said("mul"), said("sub")) == [], "now there is"
    assert await node.lists(said("mul"), said("sub"), said("add", "other")) == ["add"], "none again"
    with pytest.raises(PinsUnknown, match="nothing was forgotten"):
        await node.pins.forget("acme", "calc", rows, "late", "socket:ana")
    await node.pins.forget("acme", "calc", await node.pins.pins("acme", "calc"), "", "socket:ana")
    assert await node.lists(said("add", "other")) == [], "as it is said then"
    assert await node.lists(said("add")) == ["add"]
    told = await actions(node.store)
    assert told[1] == (
        "tools.forgotten", "calc/add",
        {"reason": "gone", "actor": "socket:ana", "before": {"add": said("add").sha256},
         "forgotten": {"add": said("add").sha256}},
    )  # fmt: skip
    events = await node.store.audit_events("acme", 2**62, 9)
    assert [(one.action, one.after_state) for one in events][-2] == (
        "tools.forgotten", '{"add":null}',
    )  # fmt: skip


async def test_c12_a_new_process_knows_what_has_drifted(node: Node, clock: SteppedClock) -> None:
    await node.lists(said("add"))
    await node.lists(said("add", "other"))
    later = Node(node.store, clock)
    assert later.pins.known("acme", "calc") is None, "it has to ask first"
    assert await later.pins.drifted("acme", "calc") == {"add"}
    assert known_drifted(later) == {"add"}
    await later.queue.close()


async def test_c12_of_several_nodes_each_knows_within_a_few_seconds(
    store: SqlStore, clock: SteppedClock
) -> None:
    first, second = (Node(store, clock, is_alone=False) for _ in range(2))
    try:
        await first.lists(said("add"))
        assert await second.pins.drifted("acme", "calc") == frozenset()
        assert await first.lists(said("add", "other")) == ["add"]
        assert known_drifted(second) == frozenset(), "not yet"
        clock.advance_s(AGE_MAX_S + 0.1)
        assert second.pins.known("acme", "calc") is None
        assert await second.pins.drifted("acme", "calc") == {"add"}
        # What one knows may be behind when it compares: the store has the word.
        await first.pins.accept("acme", "calc", await first.pins.pins("acme", "calc"), "")
        assert await second.lists(said("add", "third")) == ["add"]
        rows = await first.pins.pins("acme", "calc")
        assert [row.definition for row in rows] == [said("add", "other").text]
        with pytest.raises(PinsUnknown, match="nothing was accepted"):
            await first.pins.accept("acme", "calc", [rows[0]._replace(version=1)], "")
    finally:
        await first.queue.close()
        await second.queue.close()


async def test_c12_what_cannot_be_kept_is_not_trusted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> list[object]:
        raise StoreUnavailable("planted")

    with monkeypatch.context() as patch:
        patch.setattr(node.queue, "submit", fails)
        with pytest.raises(PinsUnknown):
            await node.lists(said("add"))
    with monkeypatch.context() as patch:
        patch.setattr(node.store, "tool_marks", fails)
        with pytest.raises(PinsUnknown):
            await node.lists(said("add"))
    node.fence.stand(Standing("f", "elsewhere", "", 0))
    with pytest.raises(PinsUnknown, match="stands still"):
        await node.lists(said("add"))
    node.fence.lift()
    assert await node.lists(said("add")) == [], "positive control"
    assert len(await actions(node.store)) == 1


async def test_c12_a_server_that_makes_up_names_is_not_kept_for_ever(node: Node) -> None:
    """What there is no room for is not shown; all else of the list is."""
    many = [said(f"t{number}") for number in range(TOOLS_MAX + 2)]
    assert await node.lists(*many) == sorted(one.tool for one in many[-2:])
    assert await node.lists(said("new"), many[0]) == ["new"]
    assert await node.lists(said("t0", "other")) == ["t0"], "drift is found all the same"
    assert len(await node.pins.pins("acme", "calc")) == TOOLS_MAX
    assert len(await actions(node.store)) == 2
