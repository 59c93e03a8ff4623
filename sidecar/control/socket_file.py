"""The file of control.sock: how it comes to its place.

Knows: the limit of such a path, and that what a process left behind may be replaced, but neither a
living one's nor anything else.
Must not know: what is said over it, any library for that.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Final

from sidecar.errors import StartRefused

NAME: Final = "control.sock"
#: macOS takes 103 bytes, Linux 107; one limit for both, with room for a name while it is made.
PATH_BYTES_MAX: Final = 100


def bound(path: Path) -> socket.socket:
    """A bound socket with the right mode, put in its place in one step; nobody can connect
    before it listens, and that is after its mode is set.

    Raises StartRefused: the path is too long, is no socket, or another process answers there.
    """
    length = len(os.fsencode(path))
    if length > PATH_BYTES_MAX:
        raise StartRefused(
            f"the path of {NAME} has {length} bytes and a Unix socket takes {PATH_BYTES_MAX}: "
            f"keep the store in a folder with a shorter path than {path.parent}"
        )
    _refuse_if_taken(path)
    draft = path.with_name(f"{path.name}~")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        draft.unlink(missing_ok=True)
        listener.bind(str(draft))
        draft.chmod(0o600)
        draft.replace(path)
    except OSError as error:
        listener.close()
        raise StartRefused(f"{path} cannot be made: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _refuse_if_taken(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartRefused(f"{path} is there and is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(1.0)
        try:
            trial.connect(str(path))
        except OSError:
            return
    raise StartRefused(f"another sidecar answers at {path}; one process per data folder")
