"""How many alerts hits make: what tests and backtests count, without rows.

Knows: that hits of one detection and subject are one alert while it is quiet, from the first on,
as `correlation` joins them, and that of too many within an hour the further ones join the newest; a
test holds the two together.
Must not know: rows, incidents, what people do about an alert.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sidecar.soc.correlation import ALERTS_OF_AGENT_MAX, TOGETHER_US
from sidecar.soc.model import Hit


@dataclass(slots=True)
class Alerts:
    """The hits that opened an alert, in order."""

    opened: list[Hit] = field(default_factory=list)
    _quiet_until_us: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)
    #: Of a detection and agent, when the last were opened.
    _opened_us: dict[tuple[str, str], deque[int]] = field(default_factory=dict)

    def take(self, hit: Hit) -> bool:
        """Whether a hit opens an alert; hits come in the order of their events."""
        key = (hit.detection, hit.subject)
        if hit.at_us < self._quiet_until_us.get(key, 0):
            return False
        whose = (hit.detection, hit.agent)
        lately = self._opened_us.setdefault(whose, deque(maxlen=ALERTS_OF_AGENT_MAX))
        if len(lately) == ALERTS_OF_AGENT_MAX and lately[0] > hit.at_us - TOGETHER_US:
            return False
        lately.append(hit.at_us)
        self._quiet_until_us[key] = hit.at_us + hit.quiet_us
        self.opened.append(hit)
        return True
