"""Users of this machine, as a record names them.

Knows: names of user ids, and who runs this process.
Must not know: what they do, or by which way they came.
"""

from __future__ import annotations

import os
import pwd


def user_name(uid: int) -> str:
    """A user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def command_actor() -> str:
    """Who acts by a command that writes to a store itself, as the socket would name them."""
    return f"cli:{user_name(os.geteuid())}"
