"""Whether what stands in the store is what was asked, by the digest that was stored with it. Pure.

Knows: that nobody may read, and nobody may decide by, a text that somebody has changed since; that
what is left after erasing has no digest of its own, and is only there once nothing can be decided.
Must not know: who looks, what the text says.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import orjson

from sidecar.approvals.erasing import erased_text, is_open
from sidecar.approvals.states import read_terms
from storage.standing import ApprovalRow

#: Stands for each text of one that was changed.
ALTERED: Final = "(not what was asked: the store was changed)"


def is_as_asked(row: ApprovalRow) -> bool:
    """Whether its text is the one that was asked, or all that erasing leaves of one."""
    digest = sha256(row.asked.encode("utf-8", "surrogatepass")).hexdigest()
    if digest == read_terms(row.terms).asked_sha256:
        return True
    return not is_open(row) and _is_what_erasing_leaves(row)


def read_asked(row: ApprovalRow) -> dict[str, Any]:
    """What is asked, to be shown; nothing of a text that was changed."""
    if is_as_asked(row):
        said: dict[str, Any] = orjson.loads(row.asked)
        return said
    return {
        "agent": row.agent_id, "tool": row.tool, "method": ALTERED, "path": ALTERED,
        "arguments": ALTERED, "headers": {}, "reason": ALTERED, "rules": [], "risk": ALTERED,
        "mutates": True, "action_sha256": row.action_sha256, "is_escaped": False, "is_cut": False,
        "is_altered": True,
    }  # fmt: skip


def _is_what_erasing_leaves(row: ApprovalRow) -> bool:
    try:
        said = orjson.loads(row.asked)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(said, dict) or said.get("is_erased") is not True:
        return False
    return row.asked == erased_text(row)
