"""Ids of calls and approvals, as they are kept.

Knows: that /v1/authorize gives them to agents with the dashes of a UUID, and that people carry them
from there to wherever one is asked for. Must not know: what they name.
"""

from __future__ import annotations

import re
from typing import Final

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def kept_id(given: str) -> str:
    """The id without a UUID's dashes; anything else as it is."""
    return given.replace("-", "") if _UUID.fullmatch(given) else given
