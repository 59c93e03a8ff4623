"""Makes the rooms that tell others what happened: sinks, the outbox's delivery and its care.

Knows: which settings they take. Part of the composition root; the sinks' libraries are loaded only
where there are sinks.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from sidecar.bell import Bell
from sidecar.control.approval_news import ApprovalNews, approval_addition
from sidecar.control.containment_news import ContainmentNews
from sidecar.control.noticed_links import linked
from sidecar.control.sink_care import ReadsDeliveries
from sidecar.errors import StartRefused
from sidecar.soc.deliveries import Told, severity_named
from sidecar.soc.delivering import Delivering
from sidecar.soc.delivery_care import DeliveryCare
from sidecar.soc.delivery_changes import DeliveryChanges
from sidecar.soc.levels import LEVELS, Level

if TYPE_CHECKING:
    from sidecar.approvals.service import Approvals
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.identity.containing import Containing
    from sidecar.ledger.fence import Fence
    from storage import SqlStore
    from storage.write_queue import WriteQueue


class Telling:
    """One for a sidecar. Whoever puts deliveries asks `told` whom, and rings when they are
    durable."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        store: SqlStore,
        queue: WriteQueue,
        fence: Fence,
        containing: Containing | None = None,
        stdout: TextIO | None = None,
        *,
        has_listeners: bool = True,
    ) -> None:
        """`stdout` is None where standard output is somebody else's: raises StartRefused for a
        sink that would write there. `containing` is asked to tell of containments."""
        self._config = config
        self._clock = clock
        self._store = store
        #: See `control.state.Telling`.
        self.reader: ReadsDeliveries = store
        self._fence = fence
        _require_own_stdout(config, stdout)
        self._stdout = stdout
        self._url = config.approvals.url if has_listeners else ""
        #: Rings when something was put; heard on all nodes.
        self.bell = Bell()
        #: The sinks, as far as it matters what they are told.
        self.told = tuple(
            Told(name, severity_named(sink.min_severity)) for name, sink in config.sinks.items()
        )
        if containing is not None and LEVELS[config.soc.level] >= Level.NOTIFY:
            containing.tells = ContainmentNews(self.told, self.ring)
        self.approval_news = ApprovalNews(self.told, clock.now_us, self.ring)
        self._care = DeliveryCare(store, fence, config.sinks)
        self.changes = DeliveryChanges(
            store, queue, clock, fence, {one.name for one in self.told}, self._hurry
        )
        self._delivering: Delivering | None = None
        #: See `sources.DeliveryCounts`.
        self.results: Mapping[tuple[str, str], int] = {}
        self.waiting_by_sink = self._care.waiting_by_sink
        self.dead_by_sink = self._care.dead_by_sink
        self.oldest_s_by_sink = self._care.oldest_s_by_sink

    def ring(self) -> None:
        """Something was put, and is durable: it is looked for now, here and elsewhere."""
        self.bell.ring()
        self.bell.ring_elsewhere()

    def _hurry(self, sink: str) -> None:
        """A person wants this sink to be tried, and not after its rest."""
        if self._delivering is not None:
            self._delivering.hurry(sink)
        self.ring()

    def upkeep(self, approvals: Approvals) -> Mapping[str, Coroutine[Any, Any, None]]:
        """See `rooms.Upkept`."""
        found = {"delivery-care": self._care.run()}
        if self._config.sinks:
            found["deliveries"] = self._deliver(approvals)
        return found

    async def _deliver(self, approvals: Approvals) -> None:
        from sidecar.lookups import OwnThreadResolver
        from sidecar.soc.sinks.registry import Means, made_sink

        names = OwnThreadResolver()
        means = Means(names, self._clock.now_us, self._store.node_id, self._stdout)
        sinks = {name: made_sink(one, means) for name, one in self._config.sinks.items()}
        delivering = Delivering(
            self._store,
            self._clock,
            sinks,
            node=self._store.node_id,
            fence=self._fence,
            bell=self.bell,
            addition=linked(approval_addition(approvals, self._config, self._url), self._url),
        )
        self._delivering, self.results = delivering, delivering.results
        try:
            await delivering.run()
        finally:
            await names.close()


def _require_own_stdout(config: Config, stdout: TextIO | None) -> None:
    for name, sink in config.sinks.items():
        if sink.kind == "stdout" and stdout is None:
            raise StartRefused(
                f"sinks.{name} writes to standard output, which belongs to the agent here: take "
                "it out, e.g. with a configuration of its own for `wrap`"
            )
