"""One tree of errors. A refusal is raised low as `Refused`, with a code of the one table
(refusals), and turned into bytes exactly once, by the dialect at the rim.

Knows: who an error is for.
Must not know: HTTP libraries, JSON-RPC, the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sidecar.refusals import REFUSALS, RefusalKind

if TYPE_CHECKING:
    from sidecar.model import Decision


__all__ = [
    "REFUSALS",
    "ConfigurationError",
    "RefusalKind",
    "Refused",
    "SidecarError",
    "StartRefused",
]


class SidecarError(Exception):
    """Something the operator has to mend; the message says what and how."""


class ConfigurationError(SidecarError):
    """The configuration, a policy or a catalogue cannot be used; problems were printed."""


class StartRefused(SidecarError):
    """The sidecar will not start; the message names the cause and the cure."""


class Refused(SidecarError):
    """A call that does not go ahead (or whose upstream failed): one kind, one reason.

    `detail` is for operators only and never reaches the caller. `is_recorded` says that the
    refusal is durable already; `is_hidden` that the caller is not to learn that there is such a
    tool. `more` are further facts for the caller's program.
    """

    def __init__(
        self,
        code: str,
        reason: str = "",
        *,
        decision: Decision | None = None,
        detail: str = "",
        retry_after_s: int | None = None,
        is_recorded: bool = False,
        is_hidden: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = REFUSALS[code]
        self.reason = reason or self.kind.title
        self.decision = decision
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.is_recorded = is_recorded
        self.is_hidden = is_hidden
        self.more = more or {}
        super().__init__(f"{code}: {self.reason}")

    @property
    def code(self) -> str:
        """The stable code."""
        return self.kind.code

    @property
    def status(self) -> int:
        """The HTTP status a REST caller gets."""
        return self.kind.status
