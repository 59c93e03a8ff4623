"""What is kept of the last backup of a store that is a file: when, how large, where it went.

Knows: that it lies beside the store's file, written by `store backup` once the copy was verified,
so that a running sidecar can tell of it. Must not know: how a backup is made.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sidecar.calibration_file import date_of
from sidecar.data_file import read_small, replace_file

_log = logging.getLogger("aegis.store")

FILE_END = ".backup.json"
FILE_BYTES_MAX = 64 * 1024


class Backup(BaseModel):
    """A copy that was verified, of what the store held at that time. `target` is where it was put;
    it may have been moved since."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    at_us: Annotated[int, Field(ge=0, lt=2**53)]
    file_bytes: Annotated[int, Field(ge=0)]
    target: str

    def sentence(self) -> str:
        """For whoever looks at the store; not where it is, for not everybody may know that."""
        return f"Last backup {date_of(self.at_us)}, {self.file_bytes:,} bytes, verified."


def keep(store: Path, backup: Backup) -> None:
    """Writes it whole and durably beside the store's file. Raises OSError."""
    replace_file(_beside(store), backup.model_dump_json(indent=2).encode() + b"\n")


def kept(store: Path) -> Backup | None:
    """The last one that is known; None if there is none. What cannot be read is logged."""
    path = _beside(store)
    try:
        content = read_small(path, FILE_BYTES_MAX)
        return None if content is None else Backup.model_validate_json(content)
    except (OSError, ValidationError) as error:
        # Not the error's own words: they repeat what the file says.
        _log.warning(
            "what is kept of the last backup cannot be read",
            extra={"detail": f"{path}: {type(error).__name__}"},
        )
        return None


class Remembered:
    """The last backup of a store for who asks again and again: the file is read, and told of in the
    log if it is of no use, only when it is another."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._at_us = 0

    def at_us(self, store: Path) -> int:
        """When it was made; 0 if none is known."""
        try:
            is_now = _beside(store).stat()
        except OSError:
            self._seen, self._at_us = None, 0
            return 0
        seen = (is_now.st_ino, is_now.st_mtime_ns, is_now.st_size)
        if seen != self._seen:
            found = kept(store)
            self._seen, self._at_us = seen, found.at_us if found is not None else 0
        return self._at_us


def told(store: Path | None) -> str:
    """In words what is known of backups of a store; None is one that a server keeps."""
    if store is None:
        return "Backups are made with the server's own tools."
    found = kept(store)
    return found.sentence() if found else "No backup is known: `aegis-sidecar store backup TARGET`."


def _beside(store: Path) -> Path:
    return store.with_name(store.name + FILE_END)
