"""What is said of a policy set that is in force: which one it is, and nothing of what it holds.

Must not know: files, rules, who is told.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class InForce(NamedTuple):
    """A policy set and the detections beside it, "" of none; `rules` is how many there are."""

    revision: str
    detections: str
    rules: int

    def shown(self) -> dict[str, Any]:
        """As an auditor reads it."""
        return {"revision": self.revision, "detections": self.detections, "rules": self.rules}

    def is_as(self, shown: object) -> bool:
        """Whether what an auditor has read is this."""
        if not isinstance(shown, dict):
            return False
        said = (shown.get("revision"), shown.get("detections"))
        return said == (self.revision, self.detections)
