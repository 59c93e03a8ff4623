"""The trend of the load over restarts: one sample an hour, in a small file of the data folder.

Knows: the samples of the last sixty days, and the file `pressure.jsonl`: a line for each hour,
`{"at_us":…,"calls_per_s":…,"store":…,"process":…}`, replaced as a whole at most once an hour and
when the sidecar stops. An hour's peak is its busiest minute: a burst of a second is no trend.
What cannot be read is passed over, what cannot be written is tried again in an hour: a forecast
is never a reason to refuse calls.
Must not know: how a forecast is made (storage.forecast), how it is shown.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

from sidecar.data_file import read_small, replace_file
from storage.forecast import HISTORY_DAYS, HOUR_US, Outlook, Sample, outlook
from storage.pressure import Snapshot

_log = logging.getLogger("aegis.store")

FILE_NAME = "pressure.jsonl"
FILE_BYTES_MAX = 1024 * 1024
#: How often the pressure is looked at; its own figures are means over as long.
LOOK_S = 5.0
#: What starting costs is no load: the first look comes when it has left the window of the figures.
START_S = 15.0
MINUTE_US = 60_000_000
#: Of a minute that was seen for less than half, nothing is said.
LOOKS_OF_A_MINUTE_MIN = 6

HOURS_MAX = HISTORY_DAYS * 24


class PressureHistory:
    """The samples so far. All methods are called on the event loop's thread; writing is done
    beside it. `now_us` is the wall clock: days and restarts are counted by it."""

    def __init__(self, folder: Path, now_us: Callable[[], int]) -> None:
        self._path = folder / FILE_NAME
        self._now_us = now_us
        self._hours: dict[int, Sample] = {}
        self._minute = 0
        self._looks: list[Snapshot] = []
        self._is_changed = False

    def load(self) -> None:
        """Takes over what the file holds; a line that is no sample is passed over."""
        try:
            content = read_small(self._path, FILE_BYTES_MAX) or b""
        except OSError as error:
            _log.warning("the trend cannot be read: it begins anew", extra={"detail": str(error)})
            return
        bad = 0
        for line in content.splitlines():
            sample = _sample_of(line)
            if sample is None:
                bad += 1
            else:
                self._keep(sample)
        if bad:
            _log.warning("lines of the trend cannot be read", extra={"count": bad})
        self._forget()
        self._is_changed = False

    def observe(self, snapshot: Snapshot) -> bool:
        """One look. True if an hour has ended, so that `save` has something to do."""
        at_us = self._now_us()
        minute = at_us // MINUTE_US
        has_turned = bool(self._looks) and minute * MINUTE_US // HOUR_US != self._hour_us // HOUR_US
        if minute != self._minute:
            self._end_minute()
            self._minute = minute
        self._looks.append(snapshot)
        return has_turned

    @property
    def _hour_us(self) -> int:
        return self._minute * MINUTE_US // HOUR_US * HOUR_US

    def _end_minute(self) -> None:
        """The minute's means against the peaks of its hour."""
        looks, self._looks = self._looks, []
        count = len(looks)
        if count < LOOKS_OF_A_MINUTE_MIN:
            return
        self._keep(
            Sample(
                self._hour_us,
                sum(one.committed_calls_per_s for one in looks) / count,
                sum(one.utilisation for one in looks) / count,
                sum(one.loop_busy for one in looks) / count,
            )
        )

    def _keep(self, sample: Sample) -> None:
        at_us = sample.at_us // HOUR_US * HOUR_US
        known = self._hours.get(at_us, Sample(at_us, 0.0, 0.0, 0.0))
        self._hours[at_us] = Sample(
            at_us,
            max(known.calls_per_s, sample.calls_per_s),
            max(known.store, sample.store),
            max(known.process, sample.process),
        )
        self._is_changed = True

    def _forget(self) -> None:
        """The oldest, by number and not by date: a clock that is wrong for a moment, as at the
        start of some machines, must not cost the history. The outlook leaves out what is off."""
        for at_us in sorted(self._hours)[:-HOURS_MAX]:
            del self._hours[at_us]

    async def save(self) -> None:
        """Replaces the file if there is something new. A failure is logged, and tried again."""
        if not self._is_changed:
            return
        self._forget()
        content = b"".join(_line_of(self._hours[at_us]) for at_us in sorted(self._hours))
        self._is_changed = False
        try:
            await asyncio.to_thread(replace_file, self._path, content)
        except OSError as error:
            self._is_changed = True
            _log.warning("the trend cannot be written", extra={"detail": str(error)})

    async def run(self, snapshot: Callable[[], Snapshot]) -> None:
        """Looks at the pressure until cancelled; writes when an hour has ended."""
        await asyncio.sleep(START_S)
        while True:
            if self.observe(snapshot()):
                await self.save()
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """Writes what the file does not hold yet."""
        self._end_minute()
        await self.save()

    def outlook(self, ceiling_calls_per_s: float) -> Outlook:
        """What the samples say, the hour that runs included, at the ceiling of now."""
        return outlook(
            list(self._hours.values()),
            ceiling_calls_per_s=ceiling_calls_per_s,
            now_us=self._now_us(),
        )


def _line_of(sample: Sample) -> bytes:
    said = {
        "at_us": sample.at_us,
        "calls_per_s": round(sample.calls_per_s, 2),
        "store": round(sample.store, 4),
        "process": round(sample.process, 4),
    }
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _sample_of(line: bytes) -> Sample | None:
    """The sample of a line; None if it is none."""
    try:
        said = json.loads(line)
        sample = Sample(
            int(said["at_us"]),
            float(said["calls_per_s"]),
            float(said["store"]),
            float(said["process"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    peaks = sample[1:]
    is_sound = sample.at_us >= 0 and all(math.isfinite(peak) and peak >= 0 for peak in peaks)
    return sample if is_sound else None
