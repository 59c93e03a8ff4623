"""What watching counts: plain numbers, published elsewhere.

Knows: the numbers and their units. Must not know: how they are published.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.soc.model import SEVERITIES


@dataclass(slots=True)
class WatchCounts:
    """Of one process. `passes` are pages that were read, `events` what of them detections looked
    at; `overtaken` counts how often another node, or an earlier try, was faster; `rebuilds_cut`
    are starts that could not read all that detections look back at; `dropped` hits that could not
    be recorded whatever was tried; `condition_errors` events of which a detection could not tell,
    `forgotten` what it forgot before its time; `errors` counts what a store would not do, by its
    code; `breaks` places at which a chain does not hold, `swept` older receipts looked at again."""

    passes: int = 0
    receipts: int = 0
    events: int = 0
    hits: int = 0
    joined: int = 0
    withheld: int = 0
    overtaken: int = 0
    rebuilds: int = 0
    rebuilds_cut: int = 0
    condition_errors: int = 0
    forgotten: int = 0
    breaks: int = 0
    swept: int = 0
    dropped: int = 0
    #: What became of the responses that detections asked for.
    responses: dict[str, int] = field(default_factory=lambda: {"done": 0, "recommended": 0})
    raised: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SEVERITIES, 0))
    errors: dict[str, int] = field(default_factory=dict)

    def failed(self, code: str) -> None:
        """The store would not do something."""
        self.errors[code] = self.errors.get(code, 0) + 1
