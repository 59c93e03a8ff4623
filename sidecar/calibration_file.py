"""The figures that `store calibrate` keeps: what they say, for what they hold, where they lie.

Knows: their form in `calibration.json` in the data folder, and that figures of another host,
engine, version, setting or file system are not this store's. Must not know: how they are measured.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sidecar.data_file import read_small, replace_file
from storage.calibrate import Calibration
from storage.commit_model import Point
from storage.commit_times import CommitTime
from storage.open_loop import Served

_log = logging.getLogger("aegis.store")

FILE_NAME = "calibration.json"
FILE_BYTES_MAX = 256 * 1024

Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Place(_Part):
    """What the figures hold for. Equal places cost the same."""

    host: str
    engine: str
    engine_version: str
    file_system: str
    settings: dict[str, str]
    batch_calls_max: Annotated[int, Field(ge=1)]


class Load(_Part):
    """What calls meet at a share of the ceiling."""

    share: Figure
    served: Served


class Figures(_Part):
    """What was measured, once, in a scratch store."""

    format: Literal[1] = 1
    measured_at_us: Annotated[int, Field(ge=0, lt=2**53)]
    date: str
    seconds: Figure
    place: Place
    points: tuple[Point, ...]
    handover_s: Figure
    fixed_s: Figure
    per_call_s: Figure
    ceiling_calls_per_s: Figure
    largest_useful_batch_calls: Annotated[int, Field(ge=0)]
    sync_p50_s: Figure
    commits: tuple[CommitTime, ...]
    under_load: tuple[Load, ...]

    def calibration(self) -> Calibration:
        """What the model of the running sidecar begins with."""
        return Calibration(self.points, self.handover_s)

    def sentence(self) -> str:
        """When and where, for `store status`."""
        return (
            f"Calibrated on {self.date[:10]} on {self.place.host}: "
            f"{self.ceiling_calls_per_s:,.0f} calls/s."
        )


def date_of(at_us: int) -> str:
    """The date and time in UTC, to the second."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def keep(folder: Path, figures: Figures) -> Path:
    """Writes the figures whole and durably; gives the file. Raises OSError."""
    path = folder / FILE_NAME
    replace_file(path, figures.model_dump_json(indent=2).encode() + b"\n")
    return path


def kept(folder: Path) -> Figures | None:
    """The figures that were kept; None if there are none. What cannot be read is logged."""
    path = folder / FILE_NAME
    try:
        content = read_small(path, FILE_BYTES_MAX)
        return None if content is None else Figures.model_validate_json(content)
    except (OSError, ValidationError) as error:
        # Not the error's own words: they repeat what the file says.
        _log.warning(
            "the kept calibration cannot be read: it is measured anew",
            extra={"detail": f"{path}: {type(error).__name__}"},
        )
        return None


def kept_for(folder: Path, place: Place) -> Figures | None:
    """The kept figures if they are of this place; otherwise None, and the log says what differs."""
    figures = kept(folder)
    if figures is None or figures.place == place:
        return figures
    differing = [
        name for name in Place.model_fields if getattr(figures.place, name) != getattr(place, name)
    ]
    _log.info(
        "the kept calibration is of another place: it is measured anew",
        extra={"detail": f"{folder / FILE_NAME}: other {', '.join(differing)}"},
    )
    return None
