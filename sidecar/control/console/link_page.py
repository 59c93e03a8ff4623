"""The page behind a signed link: what is asked, and the two answers, for whoever has no key.

Knows: that it is read in a hurry and on a telephone, and needs no script; that it shows what the
console's own page of an approval shows, in the same parts, but leads nowhere that takes a key.
Must not know: HTTP, how a link is signed, how a vote is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sidecar.approvals.refusals import ApprovalRefused
from sidecar.control.console.page import PREFIX
from sidecar.control.console.rendering import Templates

_COMMON: Final[Mapping[str, Any]] = {"prefix": PREFIX, "person": None, "notice": "", "tabs": ()}
_DONE: Final = {"approve": "Your yes is on record.", "reject": "Your no is on record."}


class LinkPage:
    """All of them; the parts are the console's."""

    def __init__(self) -> None:
        self._templates = Templates()

    def approval(
        self, approval: Mapping[str, Any], name: str, refused: ApprovalRefused | None, done: str
    ) -> str:
        """What `name` decides on. `refused` is why a vote of his would be; `done` is the one that
        he has just given."""
        values = {
            "title": f"Approval of {approval['tool']}", "approval": approval, "name": name,
            "refused": refused, "notice": _DONE.get(done, ""),
        }  # fmt: skip
        return self._templates.page("link.html", {**_COMMON, **values})

    def problem(self, code: str, title: str, next_step: str) -> str:
        """Why nothing can be decided by it."""
        said = {"code": code, "title": title, "detail": "", "next_step": next_step}
        return self._templates.page(
            "problem.html", {**_COMMON, "title": title, "said": said, "page": None}
        )
