"""Ports for servers of tests, which are told where to listen before they start."""

from __future__ import annotations

import random
import socket

#: Below the ports that systems give to outgoing connections: one of those could take a port between
#: the look at it here and the start of the server that is to have it.
PORT_MIN, PORT_MAX = 10_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody has at the moment, and that was not given here before."""
    while True:
        port = random.SystemRandom().randrange(PORT_MIN, PORT_MAX)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
