"""What the operating system said, in its own words.

Knows: how Python and asyncio write an OSError (`[Errno 2] No such file or directory: 'x'`,
`Connect call failed ('127.0.0.1', 1)`), which nobody who types a command has to read.
Must not know: who asked for what.
"""

from __future__ import annotations

import os
import re

_NUMBERS = re.compile(r"\[Errno -?\d+\] ")
_CALL = "call failed"


def os_error_text(error: Exception) -> str:
    """`FILE: No such file or directory`; of any other error its own text."""
    if not isinstance(error, OSError) or not error.strerror:
        return _NUMBERS.sub("", str(error))
    said = error.strerror
    if error.errno and _CALL in said:  # asyncio's: the address stands in what is said around it
        said = os.strerror(error.errno)
    return f"{os.fsdecode(error.filename)}: {said}" if error.filename else said
