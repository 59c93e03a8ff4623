"""What verified receipts tell of whether their sidecar ran, as the API's answers say it.

Knows: the members. Must not know: how it is found (`sidecar.ledger.liveness`).
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.control.api.route import Shape
from sidecar.control.api.times import time_text
from sidecar.ledger.liveness import SignsOfLife
from sidecar.ledger.verify import Verdict

NOTHING_TOLD: Final = SignsOfLife()


class SilenceShape(Shape):
    """No receipt came after `after_seq` until `until_us`, although one was due every `heartbeat_us`
    and no stop is on record."""

    after_seq: int
    from_at: str
    from_us: int
    until_at: str
    until_us: int
    heartbeat_us: int


class UnstoppedShape(Shape):
    """Receipt `seq` begins a boot, and of the one before, `boot`, no stop is on record."""

    seq: int
    boot: str


class AliveShape(Shape):
    """What the receipts that hold tell of their sidecar. None of it is a fault of the chain: a
    crash, a machine that slept and an end that was cut off look alike. Of many silences, and boots
    without a stop, the first are given. `runs` is what the receipts say last, null if they say
    nothing; while it is true another is due within `heartbeat_us` of `last_us`, unless that is 0.
    What stands before them is not known: nothing is due until a start or a heartbeat among them.
    """

    silence_count: int
    silences: list[SilenceShape]
    unstopped_count: int
    unstopped: list[UnstoppedShape]
    runs: bool | None
    heartbeat_us: int
    last_at: str | None
    last_us: int


def alive(found: SignsOfLife | Verdict) -> dict[str, Any]:
    """The members of AliveShape."""
    return {
        "silence_count": found.silence_count,
        "silences": [
            {
                "after_seq": one.after_seq,
                "from_at": time_text(one.from_us),
                "from_us": one.from_us,
                "until_at": time_text(one.until_us),
                "until_us": one.until_us,
                "heartbeat_us": one.heartbeat_us,
            }
            for one in found.silences
        ],
        "unstopped_count": found.unstopped_count,
        "unstopped": [{"seq": one.seq, "boot": one.boot} for one in found.unstopped],
        "runs": found.runs,
        "heartbeat_us": found.promised_us,
        "last_at": time_text(found.last_us) if found.last_us else None,
        "last_us": found.last_us,
    }
