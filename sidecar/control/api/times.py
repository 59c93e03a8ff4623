"""Times as people read them, beside the microseconds that programs compare."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(at_us: int) -> str:
    """RFC 3339 in UTC, to the microsecond; what no calendar has is "beyond"."""
    try:
        return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return "beyond"
