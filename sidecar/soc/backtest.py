"""What detections would have raised of what is on record: alerts counted by detection and subject.

Knows: that hits join an alert as they do when it is raised, that what lies before the time that is
asked about is shown to the engine without being counted, and that events of the store and the
chain are no receipts, so that nothing can be said of them. Needs memory for alerts, up to a number.
Must not know: stores, how it is shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from sidecar.soc.detection import Detections
from sidecar.soc.engine import Engine
from sidecar.soc.events import event_of
from sidecar.soc.joining import Alerts
from sidecar.soc.model import EventKind, Hit
from storage.records import RecordedEvent

#: Alerts that are told one by one; of more only the number is.
ALERTS_TOLD_MAX: Final = 10_000
#: Subjects of one detection that are told apart; alerts of more are counted together.
SUBJECTS_TOLD_MAX: Final = 1_000
_NO_RECEIPTS: Final = (EventKind.STORE, EventKind.CHAIN)

#: A tenant and a detection's subject.
Whom = tuple[str, ...]


@dataclass(slots=True)
class Raised:
    """What one detection would have raised."""

    alerts: int = 0
    hits: int = 0
    by_subject: Counter[Whom] = field(default_factory=Counter)
    untold: int = 0


class Backtest:
    """Shows records of one tenant after the other to engines of their own."""

    def __init__(self, detections: Detections, since_us: int) -> None:
        self._detections = detections
        self._since_us = since_us
        watched = (one for one in detections.all if one.event not in _NO_RECEIPTS)
        self.raised = {one.name: Raised() for one in watched}
        self.opened: list[Hit] = []
        self.events = 0
        self.failed: Counter[str] = Counter()
        self.dropped = 0

    @property
    def not_told(self) -> tuple[str, ...]:
        """The detections of which the record says nothing."""
        return tuple(one.name for one in self._detections.all if one.event in _NO_RECEIPTS)

    @property
    def alerts(self) -> int:
        """How many alerts in all."""
        return sum(one.alerts for one in self.raised.values())

    def tenant(self, tenant: str) -> TenantBacktest:
        """What takes the records of one tenant."""
        return TenantBacktest(self, Engine(self._detections, tenant), self._since_us)

    def count(self, hit: Hit, *, is_opened: bool) -> None:
        """One hit; whether it opens an alert."""
        raised = self.raised[hit.detection]
        raised.hits += 1
        if not is_opened:
            return
        raised.alerts += 1
        whom = (hit.tenant, *hit.subject)
        if whom in raised.by_subject or len(raised.by_subject) < SUBJECTS_TOLD_MAX:
            raised.by_subject[whom] += 1
        else:
            raised.untold += 1
        if len(self.opened) < ALERTS_TOLD_MAX:
            self.opened.append(hit)


class TenantBacktest:
    """The records of one tenant, oldest first, from `warm_up_us` before the time asked about."""

    def __init__(self, backtest: Backtest, engine: Engine, since_us: int) -> None:
        self._backtest = backtest
        self._engine = engine
        self._since_us = since_us
        self._alerts = Alerts()

    @property
    def warm_up_us(self) -> int:
        """How much of what was before must be shown."""
        return self._engine.warm_up_us

    def take(self, recorded: RecordedEvent) -> None:
        """One more record."""
        event = event_of(recorded)
        if event is None:
            return
        counts = event.at_us >= self._since_us
        self._backtest.events += counts
        for hit in self._engine.see(event):
            is_opened = self._alerts.take(hit)
            if counts:
                self._backtest.count(hit, is_opened=is_opened)

    def end(self) -> None:
        """Nothing more comes."""
        self._backtest.failed.update(self._engine.failed)
        self._backtest.dropped += self._engine.dropped
