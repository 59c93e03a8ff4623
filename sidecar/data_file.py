"""Small files of our own in the data folder: read within bounds, replaced whole or not at all.

Must not know: what is in them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def read_small(path: Path, bytes_max: int) -> bytes | None:
    """The content; None if there is no such file. Raises OSError, also for a file beyond bounds."""
    try:
        with path.open("rb") as handle:
            content = handle.read(bytes_max + 1)
    except FileNotFoundError:
        return None
    if len(content) > bytes_max:
        raise OSError(f"{path} is larger than the {bytes_max} bytes it can be")
    return content


def replace_file(path: Path, content: bytes) -> None:
    """Puts `content` there, durably, for the owner's eyes only; raises OSError.

    Whoever reads, and whatever is killed meanwhile, there is the old content or the new.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "wb") as handle:  # noqa: PTH123 - a descriptor, not a path
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
