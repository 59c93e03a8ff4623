"""What is said of a chain's sidecar: when it was silent, how its boots ended, whether it runs.

Knows: the words. None of it makes a chain hold or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.ledger.liveness import SignsOfLife
    from sidecar.ledger.verify import Verdict


def liveness_text(verdict: Verdict | SignsOfLife) -> str:
    """Lines, each with its end; "" of a chain that tells nothing of it."""
    from sidecar.config.units import duration_text

    lines = [
        f"silent for {_span(one.until_us - one.from_us)} after receipt {one.after_seq} "
        f"({time_text(one.from_us // 1_000_000)}): a receipt was due every "
        f"{duration_text(one.heartbeat_us / 1e6)}, and no stop is on record"
        for one in verdict.silences
    ]
    if verdict.silence_count > len(verdict.silences):
        lines.append(f"{verdict.silence_count} silences in all")
    lines += [
        f"no stop is on record of the boot before receipt {one.seq} ({one.boot!a}): a crash, a "
        "kill, or an end that was cut off"
        for one in verdict.unstopped
    ]
    if verdict.unstopped_count > len(verdict.unstopped):
        lines.append(f"{verdict.unstopped_count} boots without a stop in all")
    if verdict.runs is not None:
        lines.append(_end(verdict, duration_text(verdict.promised_us / 1e6)))
    return "".join(f"{line}\n" for line in lines)


def _end(verdict: Verdict | SignsOfLife, interval: str) -> str:
    at = time_text(verdict.last_us // 1_000_000)
    if not verdict.runs:
        return f"at its end the sidecar had stopped, by its own record; the last receipt is of {at}"
    due = f"and a receipt was due every {interval}" if verdict.promised_us else (
        "and no heartbeat was promised"
    )  # fmt: skip
    return f"at its end the sidecar ran, {due}; the last receipt is of {at}"


def _span(length_us: int) -> str:
    minutes = length_us // 60_000_000
    if minutes < 1:
        return f"{length_us // 1_000_000} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def time_text(at_s: int) -> str:
    """Seconds since 1970, for people."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(at_s, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{at_s} s"
