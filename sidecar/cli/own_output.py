"""Standard output and standard error as every command takes them to be: there, and able to say all.

Knows: that a file or another program gets UTF-8, whatever the locale is, since what is written here
(a catalogue, a pack, an export) is read here as UTF-8; that a terminal which can show less gets
escapes; that whoever started us may have closed either, or have no room left for more.
Must not know: what is said.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Final

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_STANDARD_ERROR: Final = 2


def make_ready() -> None:
    """Before anything is said. Standard output that was closed stays so for whoever asks for it by
    its number; what is printed goes nowhere."""
    if sys.stderr is None:
        # By its number too: what a file of ours would be given else.
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing != _STANDARD_ERROR:
            os.dup2(nothing, _STANDARD_ERROR)
            os.close(nothing)
        sys.stderr = os.fdopen(_STANDARD_ERROR, "w", encoding="utf-8", closefd=False)
    if sys.stdout is None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        sys.stdout = os.fdopen(nothing, "w", encoding="utf-8")
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper) or codecs.lookup(out.encoding).name == "utf-8":
        return
    if out.isatty():
        out.reconfigure(errors="backslashreplace")
    else:
        out.reconfigure(encoding="utf-8")


def hold_numbers() -> None:
    """Whatever of the standard numbers was closed leads nowhere from now on. What would be given
    one of them else is ended with a core dump by libuv when it closes it."""
    while (nothing := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(nothing)


def has_no_room(error: OSError) -> bool:
    """Whether what was said could not be written. Then nothing more is, or the interpreter would
    try again when it ends."""
    if error.errno not in _NO_ROOM or error.filename is not None:
        return False
    silence()
    return True


def silence() -> None:
    """From here on what is written to standard output goes nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
