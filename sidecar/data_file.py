"""Small files of our own in the data folder: read within bounds, replaced whole or not at all.

Must not know: what is in them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from storage.sqlite_file import open_new


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

    Whoever reads, and whatever is killed meanwhile, there is the old content or the new. What root
    puts into somebody else's folder is that one's: a command that was run as root keeps no sidecar
    from reading its own files.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.unlink(missing_ok=True)  # left by somebody who had this number and was killed
        descriptor = open_new(fresh, of_folder=True)
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
