"""Delivers what waits in the outbox, beside the way of calls and never in it.

Knows: whoever takes a row first sends it, on whatever node; that what was sent and not marked is
sent again, with the same id; that a sink which does not answer is left alone for a while and holds
up no other. What failed and what was given up is kept and counted.
Must not know: the kinds of sink, what is told, who puts rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import orjson

from sidecar.bell import Bell
from sidecar.soc.attempts import delivered, failed, sink_rest_s, taken
from sidecar.soc.model import Severity
from sidecar.soc.sinks.seam import ATTEMPT_S, NotDelivered, Outgoing, Sink
from storage.errors import StoreError
from storage.watch_rows import DeliveryRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.ledger.fence import Fence

_log = logging.getLogger("aegis.soc")

#: How often the store is looked at when nobody rings.
POLL_S: Final = 1.0
#: Deliveries on their way to one sink.
IN_FLIGHT_MAX: Final = 8
#: After a ring, so long more is waited for, so that what ended together is written together.
GATHER_S: Final = 0.02
#: Rows of one transaction.
ROWS_AT_ONCE: Final = 50
#: What is on its way when the sidecar stops may take so long to end.
LAST_S: Final = 2.0
JITTER_BYTES: Final = 4

#: What an attempt may come to, as a metric says it.
RESULTS: Final = ("delivered", "retried", "dead")


class Outbox(Protocol):
    """What is needed of a store."""

    async def sinks_due(self, at_us: int) -> list[tuple[str, str]]:
        """Job across tenants: tenants and sinks that have something due."""
        ...

    async def deliveries_due(
        self, tenant_id: str, sink: str, at_us: int, limit: int
    ) -> list[DeliveryRow]:
        """What a sink is to be told by now."""
        ...

    async def put_rows(self, tenant_id: str, rows: Sequence[DeliveryRow]) -> bool:
        """All of them or none."""
        ...

    async def clock_us(self) -> int:
        """Now, by the clock that all nodes share."""
        ...


#: What is added to a body when it is sent, for it must not lie in the store: (row) -> members.
Addition = Callable[[DeliveryRow], Awaitable[Mapping[str, Any]]]


async def nothing_more(_: DeliveryRow) -> Mapping[str, Any]:
    """Where nothing is added."""
    return {}


class _Ended(NamedTuple):
    row: DeliveryRow
    error: NotDelivered | None


class _Standing:
    """How a sink stands at this node."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.failures = 0
        self.rests_until_ns = 0


class Delivering:
    """One for a process. All is done on the event loop's thread."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        sinks: Mapping[str, Sink],
        *,
        node: str,
        fence: Fence,
        bell: Bell,
        addition: Addition = nothing_more,
    ) -> None:
        """`bell` rings when something was put."""
        self._outbox = outbox
        self._clock = clock
        self._sinks = sinks
        self._node = node
        self._fence = fence
        self._addition = addition
        self._standing = {name: _Standing() for name in sinks}
        self._sending: set[asyncio.Task[None]] = set()
        self._ended: list[_Ended] = []
        self._turn = 0
        self._bell = bell
        #: What attempts came to at this node, by sink and result.
        self.results = {(name, result): 0 for name in sinks for result in RESULTS}

    def hurry(self, sink: str) -> None:
        """Somebody says that the sink works: it is tried now, and not after its rest."""
        standing = self._standing.get(sink)
        if standing is not None:
            standing.failures = standing.rests_until_ns = 0
        self._bell.ring()

    async def run(self) -> None:
        """Again and again until cancelled; then what is on its way may end."""
        told = ""
        try:
            while True:
                try:
                    await self.turn()
                    told = ""
                except StoreError as error:
                    if told != error.code:  # once, until it is something else
                        _log.warning("nobody can be told now", extra={"cause": error.code})
                    told = error.code
                except Exception:  # a fault of ours must not silence every sink for good
                    _log.exception("a turn of deliveries failed")
                await self._bell.rest(POLL_S)
                await asyncio.sleep(GATHER_S)
        finally:
            await self._finish()

    async def turn(self) -> None:
        """Writes down what has ended, and begins what is due. Raises StoreError."""
        if self._fence.is_up:
            return
        await self._write_down()
        at_us = await self._outbox.clock_us()
        due = await self._outbox.sinks_due(at_us)
        self._turn += 1
        start = self._turn % len(due) if due else 0  # nobody is always the last
        for tenant, sink in (*due[start:], *due[:start]):
            standing = self._standing.get(sink)
            if standing is None:
                continue  # another node may know it
            free = IN_FLIGHT_MAX - standing.in_flight
            if free > 0 and self._clock.monotonic_ns() >= standing.rests_until_ns:
                await self._begin(tenant, sink, at_us, free if not standing.failures else 1)

    async def _begin(self, tenant: str, sink: str, at_us: int, free: int) -> None:
        rows = await self._outbox.deliveries_due(tenant, sink, at_us, free)
        for row in await self._put(tenant, [taken(row, self._node, at_us) for row in rows]):
            self._standing[sink].in_flight += 1
            task = asyncio.get_running_loop().create_task(self._send(row), name="delivery")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, row: DeliveryRow) -> None:
        error: NotDelivered | None = None
        standing = self._standing[row.sink]
        try:
            # A sink keeps its time itself; this is for one that does not.
            async with asyncio.timeout(ATTEMPT_S + LAST_S):
                await self._sinks[row.sink].send(outgoing(row, await self._addition(row)))
        except NotDelivered as refused:
            error = refused
        except TimeoutError:
            error = NotDelivered("no answer in time")
        except StoreError as unreadable:
            error = NotDelivered(f"not sent: {unreadable.code}")
        except Exception as fault:  # a fault of ours must not stop the others
            _log.exception("a delivery failed", extra={"code": type(fault).__name__})
            error = NotDelivered(f"a fault: {type(fault).__name__}")
        finally:
            standing.in_flight -= 1
        if error is None or error.is_final:  # it answers
            standing.failures = 0
        else:
            standing.failures += 1
            rest_s = max(sink_rest_s(standing.failures), error.wait_s)
            standing.rests_until_ns = self._clock.monotonic_ns() + round(rest_s * 1e9)
        self._ended.append(_Ended(row, error))
        self._bell.ring()

    async def _write_down(self) -> None:
        """What came of attempts. Raises StoreError; then it is tried again, and where that takes
        too long, the attempts are made again."""
        ended, self._ended = self._ended, []
        try:
            await self._written_down(ended)
        except StoreError:
            self._ended = [*ended, *self._ended]  # of those that are written, it will change none
            raise

    async def _written_down(self, ended: Sequence[_Ended]) -> None:
        if not ended:
            return
        at_us = await self._outbox.clock_us()
        by_tenant: dict[str, list[DeliveryRow]] = {}
        for row, error in ended:
            after = self._after(row, error, at_us)
            by_tenant.setdefault(row.tenant_id, []).append(after)
        for tenant, rows in by_tenant.items():
            for at in range(0, len(rows), ROWS_AT_ONCE):
                for row in await self._put(tenant, rows[at : at + ROWS_AT_ONCE]):
                    self._count(row)

    def _after(self, row: DeliveryRow, error: NotDelivered | None, at_us: int) -> DeliveryRow:
        if error is None:
            return delivered(row, at_us)
        return failed(
            row, error.said, at_us, is_final=error.is_final, wait_s=error.wait_s,
            jitter=self._jitter(),
        )  # fmt: skip

    def _jitter(self) -> float:
        drawn = int.from_bytes(self._clock.random_bytes(JITTER_BYTES), "big")
        return drawn / 256.0**JITTER_BYTES

    def _count(self, row: DeliveryRow) -> None:
        result = "retried" if row.state == "waiting" else row.state
        self.results[row.sink, result] += 1
        if row.state == "dead":
            _log.error(
                "a delivery was given up: `sinks dead` shows it, `sinks retry` tries again",
                extra={"detail": row.sink, "reason": row.said},
            )

    async def _put(self, tenant: str, rows: Sequence[DeliveryRow]) -> Sequence[DeliveryRow]:
        """Those that were put: all, or where another was faster with some, the others."""
        if not rows or await self._outbox.put_rows(tenant, rows):
            return rows
        return [row for row in rows if await self._outbox.put_rows(tenant, [row])]

    async def _finish(self) -> None:
        """What is on its way may end, for so long; what came of it is written down."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=LAST_S)
        for task in self._sending:
            task.cancel()
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LAST_S):
                if not self._fence.is_up:
                    await self._write_down()
        for sink in self._sinks.values():
            await sink.close()


def outgoing(row: DeliveryRow, more: Mapping[str, Any]) -> Outgoing:
    """A row as a sink is told it; `more` are members of the thing it tells of."""
    said = {**orjson.loads(row.body), "delivery_id": row.delivery_id}
    if more:
        noun = row.kind.partition(".")[0]
        said[noun] = {**said.get(noun, {}), **more}
    return Outgoing(
        delivery_id=row.delivery_id,
        kind=row.kind,
        severity=Severity(row.severity),
        tenant=row.tenant_id,
        at_us=int(said.get("at_us", row.created_us)),
        said=said,
    )
