"""Frames that crowd leave others their turns, and lose nothing by it: neither order nor an end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_wire_setup import until, upstream_of

from sidecar.model import OutcomeKind
from sidecar.proxy import websocket_relay
from sidecar.proxy.upstream import Switched
from sidecar.proxy.websocket_frames import FRAMES_AT_ONCE, FrameWalk
from sidecar.proxy.websocket_relay import Relay
from sidecar.telemetry.counters import WebSocketCounters

#: Of the agent, which masks, and of the upstream.
EMPTY = {True: b"\x81\x80mask", False: b"\x81\x00"}
CLOSE = {True: b"\x88\x82mask\x8e\x89", False: b"\x88\x02\x03\xe8"}
MANY = 40_000


def walk(*, masked: bool, most: int = 1000) -> FrameWalk:
    return FrameWalk(is_masked=masked, message_bytes_max=most)


def taken(walked: FrameWalk, data: bytes) -> tuple[bytes, int]:
    """All that goes on of `data`, and in how many turns."""
    out, turns = walked.take(data), 1
    while walked.has_more:
        out, turns = out + walked.take(b""), turns + 1
    return out, turns


@pytest.mark.parametrize("masked", [True, False])
def test_b19_only_so_many_frames_are_taken_at_a_time(masked: bool) -> None:
    """Also where they are parts, pings, or of every length that two bytes can tell."""
    for one in (
        [EMPTY[masked]],
        [b"\x01" + EMPTY[masked][1:], b"\x80" + EMPTY[masked][1:]],
        [b"\x89" + EMPTY[masked][1:]],
        [bytes((0x82, size | masked * 0x80)) + masked * b"mask" + bytes(size) for size in range(9)],
    ):
        sent = b"".join(one) * (MANY // len(one))
        walked = walk(masked=masked)
        first = walked.take(sent)
        assert len(first) <= FRAMES_AT_ONCE * max(map(len, one)) and walked.has_more
        out, turns = taken(walked, b"")
        assert first + out == sent and not walked.has_more
        assert turns >= MANY // FRAMES_AT_ONCE
    walked = walk(masked=masked)
    few = EMPTY[masked] * FRAMES_AT_ONCE
    assert walked.take(few) == few and not walked.has_more, "control: so many are taken at once"


SIZES = st.sampled_from([0, 0, 1, 2, 125, 126, 127, 300, 1001])
FRAMES = st.tuples(
    st.sampled_from([0x81, 0x82, 0x81, 0x01, 0x00, 0x80, 0x89, 0x8A, 0x88, 0xC1, 0x83]), SIZES
)


def written(first: int, size: int, *, masked: bool) -> bytes:
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    head = bytes([first, length[0] | masked * 0x80]) + length[1:]
    return head + (b"mask" if masked else b"") + bytes(size)


@given(st.lists(FRAMES, max_size=12), st.booleans(), st.booleans(), st.randoms())
def test_what_is_told_from_two_bytes_is_what_the_whole_head_says(
    frames: list[tuple[int, int]], masked: bool, is_other: bool, chance: random.Random
) -> None:
    """A frame at a time, whose head comes byte by byte, is judged by all of it."""
    sent = b"".join(written(first, size, masked=masked ^ is_other) for first, size in frames)
    at_once, bit_by_bit = walk(masked=masked), walk(masked=masked)
    out, _ = taken(at_once, sent)
    expected = b"".join(bit_by_bit.take(sent[at : at + 1]) for at in range(len(sent)))
    assert out == expected
    assert at_once.fault == bit_by_bit.fault
    assert (at_once.has_closed, at_once.messages) == (bit_by_bit.has_closed, bit_by_bit.messages)
    crowded, turned = b"", walk(masked=masked)
    whole = EMPTY[masked] * FRAMES_AT_ONCE + sent
    while whole:  # more comes while some waits
        size = chance.randrange(1, 4000)
        crowded, whole = crowded + turned.take(whole[:size]), whole[size:]
    crowded += taken(turned, b"")[0]
    assert crowded == EMPTY[masked] * FRAMES_AT_ONCE + expected


class _Near(asyncio.Protocol):
    """The agent's connection as the front door has it."""

    def __init__(self) -> None:
        self.relay: Relay | None = None

    def data_received(self, data: bytes) -> None:
        assert self.relay is not None
        self.relay.from_agent(data)

    def pause_writing(self) -> None:
        assert self.relay is not None
        self.relay.agent_pauses()

    def resume_writing(self) -> None:
        assert self.relay is not None
        self.relay.agent_resumes()

    def connection_lost(self, error: Exception | None) -> None:
        assert self.relay is not None
        self.relay.agent_lost()


@dataclass
class Between:
    """A relay between two pairs of sockets; of each the far end is the test's."""

    relay: Relay
    counters: WebSocketCounters
    agent: asyncio.Transport
    far: dict[bool, socket.socket]
    #: The messages that were counted in one turn of the event loop.
    in_turns: list[int] = field(default_factory=list)

    async def heard(self, size: int, *, by_agent: bool) -> bytes:
        loop, out = asyncio.get_running_loop(), b""
        async with asyncio.timeout(20):
            while len(out) < size:
                piece = await loop.sock_recv(self.far[by_agent], 65_536)
                if not piece:
                    break
                out += piece
        return out

    async def watch(self) -> None:
        before = 0
        while True:
            self.in_turns.append(self.counters.messages - before)
            before = self.counters.messages
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def between(first: bytes = b"") -> AsyncIterator[Between]:
    loop = asyncio.get_running_loop()
    (agent, far_agent), (upstream, far_upstream) = socket.socketpair(), socket.socketpair()
    for one in (far_agent, far_upstream):
        one.setblocking(False)
    near = _Near()
    transport, _ = await loop.create_connection(lambda: near, sock=agent)
    made, _ = await loop.create_connection(asyncio.Protocol, sock=upstream)
    made.pause_reading()
    counters = WebSocketCounters()
    relay = near.relay = Relay(Switched(made, first), upstream_of(1), counters, random.randbytes)
    relay.begin(transport)
    one = Between(relay, counters, transport, {True: far_agent, False: far_upstream})
    watching = asyncio.create_task(one.watch())
    try:
        yield one
    finally:
        watching.cancel()
        relay.cut()
        transport.abort()
        made.abort()
        await asyncio.sleep(0)
        far_agent.close()
        far_upstream.close()


@pytest.mark.parametrize("from_agent", [True, False])
async def test_b19_a_crowd_of_frames_leaves_others_their_turns(from_agent: bool) -> None:
    loop = asyncio.get_running_loop()
    sent = EMPTY[from_agent] * MANY + CLOSE[from_agent]
    async with between() as one:
        saying = asyncio.create_task(loop.sock_sendall(one.far[from_agent], sent))
        assert await one.heard(len(sent), by_agent=not from_agent) == sent
        await saying
        assert one.counters.messages == MANY
        assert max(one.in_turns) <= FRAMES_AT_ONCE
        # And it is read on behind them.
        assert not one.relay.cause
        answer = EMPTY[not from_agent] + CLOSE[not from_agent]
        await loop.sock_sendall(one.far[not from_agent], answer)
        assert await one.heard(len(answer), by_agent=from_agent) == answer
        one.far[from_agent].close()
        await until(lambda: bool(one.relay.cause))
        assert one.relay.kind is OutcomeKind.COMPLETED


async def test_b19_frames_that_come_right_behind_the_handshake_are_taken_in_turns() -> None:
    sent = EMPTY[False] * MANY
    async with between(sent) as one:
        assert await one.heard(len(sent), by_agent=True) == sent
        assert max(one.in_turns) <= 2 * FRAMES_AT_ONCE  # the first was taken before the watch
        await asyncio.get_running_loop().sock_sendall(one.far[False], CLOSE[False])
        assert await one.heard(4, by_agent=True) == CLOSE[False], "and it is read on"


async def test_frames_wait_while_the_other_end_takes_none() -> None:
    sent = (b"\x81\xfd" + b"mask" + bytes(125)) * 30_000
    async with between() as one:
        loop = asyncio.get_running_loop()
        saying = asyncio.create_task(loop.sock_sendall(one.far[True], sent))
        await until(lambda: one.relay._agent.is_paused and one.relay._upstream.stuck is not None)
        for _ in range(50):
            await asyncio.sleep(0)
        passed = one.counters.messages
        assert passed < 30_000 and not saying.done()
        for _ in range(50):
            await asyncio.sleep(0)
        assert one.counters.messages == passed, "nothing more is taken meanwhile"
        assert await one.heard(len(sent), by_agent=False) == sent
        await saying
        await until(lambda: not one.relay._agent.is_paused)
        assert one.counters.messages == 30_000


@pytest.mark.parametrize("from_agent", [True, False])
async def test_what_was_said_last_is_passed_on_though_its_sender_is_gone(from_agent: bool) -> None:
    """The connection is lost while frames of it still wait for their turn."""
    sent = EMPTY[from_agent] * 10_000 + CLOSE[from_agent]
    async with between() as one:
        if from_agent:
            one.relay.from_agent(sent)
            one.relay.agent_lost()
        else:
            one.relay.from_upstream(sent)
            one.relay.upstream_lost()
        assert not one.relay.cause
        assert await one.heard(len(sent), by_agent=not from_agent) == sent
        await until(lambda: one.relay.cause == "closed")


async def test_a_stop_is_told_between_frames_though_some_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_relay, "FAREWELL_S", 0.5)
    async with between() as one:
        one.relay.from_agent(EMPTY[True] * 10_000 + CLOSE[True])
        one.relay.go_away()
        heard = await one.heard(1 << 20, by_agent=False)
        told = heard.removeprefix(EMPTY[True] * FRAMES_AT_ONCE)
        assert len(told) == 8 and told[0] == 0x88, "a Close of ours, and nothing behind it"
        assert await one.heard(4, by_agent=True) == b"\x88\x02\x03\xe9"
        await asyncio.wait_for(one.relay.ended, 3)
        assert one.relay.kind is OutcomeKind.COMPLETED, "its own Close was read among what waited"
