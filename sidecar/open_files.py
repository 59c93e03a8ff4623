"""How many files this process may have open, and how many of them connections may take.

Knows: that each connection is a file, and a call's another one towards its upstream; that systems
begin processes with few (1,024, on macOS 256) and let them have more for the asking; that who may
connect without a credential must leave some for the store, the log and the upstreams.
Must not know: configuration, who connects.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

#: Of the sidecar itself: store, log, policies, heads, sinks, its socket, names being looked up.
OWN: Final = 64
#: Of the control listener, and the share of all that it has where there are few.
CONTROL_MAX: Final = 512
CONTROL_SHARE: Final = 4
#: Fewer serve nobody.
CONNECTIONS_MIN: Final = 8
_UNLIMITED: Final = 1 << 31


def open_files_max() -> int:
    """The limit as it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def needed_for(connections: int) -> int:
    """How many files may be open when so many agents' connections are, and each has a call."""
    return 2 * connections + CONTROL_MAX + OWN


def raise_for(connections: int) -> None:
    """Raises the limit to what they need, as far as the system lets this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed_for(connections)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS tells of no hard limit, and has one.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def control_connections_max() -> int:
    """How many connections the control listener may hold."""
    return min(CONTROL_MAX, max(CONNECTIONS_MIN, open_files_max() // CONTROL_SHARE))


def connections_max(wanted: int) -> int:
    """How many of the `wanted` connections of agents there are files for."""
    left = open_files_max() - OWN - control_connections_max()
    return min(wanted, max(CONNECTIONS_MIN, left // 2))
