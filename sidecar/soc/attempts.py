"""What becomes of a delivery: taken, delivered, tried again later, given up, taken up again. Pure.

Knows: each is one version on, so that of two nodes one has it; that an attempt counts from when it
is begun, so that one which kills its process is not made for ever.
Must not know: stores, clocks, how a sink is reached.
"""

from __future__ import annotations

from typing import Final

from sidecar.soc.deliveries import AT_ONCE, State
from storage.watch_rows import DeliveryRow

#: After so many attempts it is given up: some four hours.
ATTEMPTS_MAX: Final = 16
#: The rest after the first attempt that failed; it doubles with each, up to the cap.
BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 3600.0
#: So long a node that took one may say what came of it; then it is anybody's again.
VISIBLE_AFTER_S: Final = 30.0
#: A sink that failed is left alone for the same growing time, but never for longer than this.
SINK_REST_CAP_S: Final = 60.0
SAID_CHARACTERS_MAX: Final = 300


def backoff_s(attempts: int, jitter: float) -> float:
    """How long to rest after so many attempts; `jitter` from 0 to 1 takes off up to half of it."""
    doubled = BACKOFF_BASE_S * 2.0 ** min(attempts - 1, 32)
    return min(BACKOFF_CAP_S, doubled) * (1.0 - jitter / 2)


def sink_rest_s(failures: int) -> float:
    """How long a sink is left alone after so many failures in a row."""
    return min(SINK_REST_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures - 1, 32))


def taken(row: DeliveryRow, node: str, at_us: int) -> DeliveryRow:
    """An attempt begins; if nobody says what came of it, another does."""
    return _moved(
        row,
        at_us,
        attempts=row.attempts + 1,
        due_us=at_us + _us(VISIBLE_AFTER_S),
        said=f"{row.said.partition(_SENT_BY)[0]}{_SENT_BY}{node}",
    )


_SENT_BY: Final = "; being sent by "


def delivered(row: DeliveryRow, at_us: int) -> DeliveryRow:
    """The sink has it."""
    return _moved(row, at_us, state=State.DELIVERED.value, said="")


def failed(
    row: DeliveryRow, said: str, at_us: int, *, is_final: bool, wait_s: float, jitter: float
) -> DeliveryRow:
    """The sink does not have it: tried again after a rest, or given up."""
    if is_final or row.attempts >= ATTEMPTS_MAX:
        return given_up(row, said, at_us)
    rest_s = max(backoff_s(row.attempts, jitter), min(wait_s, BACKOFF_CAP_S))
    return _moved(row, at_us, due_us=at_us + _us(rest_s), said=said)


def given_up(row: DeliveryRow, why: str, at_us: int) -> DeliveryRow:
    """A person has to look at it."""
    return _moved(row, at_us, state=State.DEAD.value, said=why)


def again(row: DeliveryRow, at_us: int) -> DeliveryRow:
    """A person wants it tried again, from the beginning."""
    return _moved(row, at_us, state=State.WAITING.value, attempts=0, due_us=AT_ONCE)


def _moved(row: DeliveryRow, at_us: int, **changes: object) -> DeliveryRow:
    after = row._replace(version=row.version + 1, changed_at_us=at_us, **changes)  # type: ignore[arg-type]
    return after._replace(said=after.said[:SAID_CHARACTERS_MAX])


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
