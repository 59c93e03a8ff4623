"""This node's lease on a store that several share, and the end of nodes whose lease has run out.

Knows: that a node which does not renew in time is taken for dead, and that what it left open is
then closed as unknown by any other. All times are the server's: clocks of nodes may differ.
A server that was away kept everybody from renewing: who comes back lets the others do it too,
before it takes one for dead. A store that was moved away is not worked on: its marks are read after
each renewal.
Must not know: how leases are kept, what else the sidecar does.
"""

from __future__ import annotations

import asyncio
import logging

from sidecar.clock import Clock
from sidecar.ledger.fence import Fence, Standing
from sidecar.ledger.recovery import recover
from storage.errors import StoreError, StoreHeld
from storage.marks import Marks
from storage.records import Seal
from storage.sql_store import SqlStore

LEASE_S = 15.0
#: Three attempts within one lease; after one that failed the next comes soon, for until then
#: whatever this node begins may be closed by another.
RENEWALS_A_LEASE = 3
RETRIES_A_LEASE = 15
#: How long telling that this node stops in order may take: it only spares the others waiting.
END_S = 2.0

_log = logging.getLogger("aegis.ledger")


class Lease:
    """Begun before anything is recorded, kept by `run`, ended after the last record."""

    def __init__(
        self,
        store: SqlStore,
        seal: Seal,
        clock: Clock,
        *,
        boot_id: str,
        lease_s: float = LEASE_S,
        fence: Fence | None = None,
    ) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._boot_id = boot_id
        self._lease_s = lease_s
        self._fence = fence or Fence()
        self._marks = Marks(store)
        #: What a dead node left is being closed: receipts are written beside the queue.
        self.is_recovering = False
        #: The fence of another node that this one stands still for.
        self._followed = ""
        #: Intents of dead nodes closed so far.
        self.recovered = 0
        self._renewed_ns = 0
        #: Until when the others may come back too, from a gap in which none could renew.
        self._lenient_until_ns = 0

    async def begin(self) -> None:
        """Raises StoreHeld if another process lives under this node's name, or a StoreError.

        After a crash the lease of the boot before still runs: it is waited for. The marks of a
        move are looked for once more after the lease is there: a move looks for leases after it
        has set its mark, so one of the two sees the other.
        """
        until_ns = self._clock.monotonic_ns() + int(self._lease_s * 1.2 * 1e9)
        has_said = False
        while True:
            try:
                await self._store.renew_lease(self._boot_id, self._lease_s)
                self._renewed_ns = self._clock.monotonic_ns()
                break
            except StoreHeld:
                if self._clock.monotonic_ns() > until_ns:
                    raise
            if not has_said:
                has_said = True
                _log.warning("waiting for the lease of an earlier boot of this node to run out")
            await asyncio.sleep(self._lease_s / 20)
        try:
            await self._marks.check()
        except StoreError:
            await self.end()
            raise

    async def run(self) -> None:
        """Renews, and closes what dead nodes left; a failure is said and tried again."""
        said = ""
        while True:
            await asyncio.sleep(self._lease_s / (RETRIES_A_LEASE if said else RENEWALS_A_LEASE))
            try:
                try:
                    await self._store.renew_lease(self._boot_id, self._lease_s)
                except StoreError:  # also where another has this node's name by now
                    await self._look_at_marks()
                    raise
                self._renewed()
                # Not in a `finally`: an error of the store would take the place of the end of this.
                await self._look_at_marks()
                if self._clock.monotonic_ns() >= self._lenient_until_ns:
                    await self.recover_dead()
                said = ""
            except StoreError as error:
                if error.code != said:
                    _log.warning(
                        "the lease of this node was not renewed", extra={"cause": error.code}
                    )
                said = error.code

    def _renewed(self) -> None:
        """The lease is there. After a gap in which the others' may have run out as well, each of
        them has as long as a lease to be there again."""
        now_ns, lease_ns = self._clock.monotonic_ns(), int(self._lease_s * 1e9)
        gap_ns, self._renewed_ns = now_ns - self._renewed_ns, now_ns
        if gap_ns > lease_ns - lease_ns // RENEWALS_A_LEASE:
            self._lenient_until_ns = now_ns + lease_ns
        if gap_ns > lease_ns:
            _log.warning(
                "the lease of this node had run out: other nodes may have closed calls that were "
                "in flight here as unknown"
            )

    async def recover_dead(self) -> None:
        """Closes the open intents of nodes whose lease has run out; not behind a fence."""
        self.is_recovering = True
        try:
            await self._recover_dead()
        finally:
            self.is_recovering = False

    async def _recover_dead(self) -> None:
        for node_id in await self._store.dead_nodes():
            if self._fence.is_up:
                return
            closed = await recover(
                self._store, self._seal, self._clock, boot_id=self._boot_id, node_id=node_id
            )
            self.recovered += closed
            if not closed:
                continue  # it lives again
            _log.warning(
                "a node is dead; its calls in flight ended unknown",
                extra={"node": node_id, "recovered": closed},
            )

    async def _look_at_marks(self) -> None:
        """Stops this node's work on a store that was moved while it seemed dead to the others, and
        while such a move goes on."""
        target = await self._marks.moved_to()
        if target is None:
            await self._look_at_fence()
            return
        if self._fence.standing and self._fence.standing.is_moved:
            return
        now_us = self._clock.now_us()
        self._fence.stand(Standing("", target, "moved by another", now_us, is_moved=True))
        _log.error("the store was moved away; calls are refused", extra={"store": target})

    async def _look_at_fence(self) -> None:
        """Stands still while another node is fenced; its own fence is not this one's to lift."""
        mark, standing = await self._marks.fence(), self._fence.standing
        if mark is not None and mark.node_id != self._store.node_id and standing is None:
            self._followed = mark.fence_id
            self._fence.stand(Standing(mark.fence_id, mark.target, mark.reason, mark.since_us))
            _log.error("the store is fenced; calls are refused", extra={"store": mark.target})
        elif mark is None and self._followed:
            if standing is not None and standing.fence_id == self._followed:
                self._fence.lift()
            self._followed = ""

    async def end(self) -> None:
        """Lets others close at once what this boot leaves open; a failure only delays that."""
        try:
            async with asyncio.timeout(END_S):
                await self._store.end_lease(self._boot_id)
        except StoreError as error:
            _log.warning("the lease of this node was not ended", extra={"cause": error.code})
        except TimeoutError:
            _log.warning(
                "the lease of this node was not ended", extra={"cause": f"not within {END_S:g} s"}
            )
