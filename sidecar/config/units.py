"""Durations, sizes and addresses as users write them: the unit is always there.

Knows: the texts `250ms 30s 5m 24h 7d`, `64KiB 1MiB` and `host:port`. Raises ValueError with a
message fit for a user.
"""

from __future__ import annotations

import ipaddress
import re

_DURATION = re.compile(r"(0|[1-9][0-9]*)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(0|[1-9][0-9]*)(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


def duration_s(text: object) -> float:
    """Seconds of a duration."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write a number and a unit, e.g. 30s, 5m")
    return int(match[1]) * _SECONDS[match[2]]


def size_bytes(text: object) -> int:
    """Bytes of a size."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a size: write a number and a unit, e.g. 64KiB, 1MiB")
    return int(match[1]) * _BYTES[match[2]]


def host_port(text: object) -> tuple[str, int]:
    """(host, port) of `host:port`; an IPv6 host stands in brackets and loses them."""
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError(f"{text!r} is not an address: write host:port, e.g. 127.0.0.1:8080")
    return match[1].strip("[]"), int(match[2])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
