"""Everything the API answers instead of what was asked for: one table, one shape (RFC 9457).

Knows: stable codes, HTTP statuses, what to do next; which code an error of a room below becomes.
A problem is raised where it is found and turned into bytes once, at the rim.
Must not know: HTTP libraries, which route was asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from sidecar.approvals.refusals import ApprovalRefused
from sidecar.control.run_care import RunCareRefused
from sidecar.control.tool_care import ToolCareRefused
from sidecar.errors import RefusalKind
from sidecar.identity.changes import ChangeRefused
from sidecar.ledger.proofs import NoProof
from sidecar.ledger.tiles import TreeIncomplete
from sidecar.soc.delivery_changes import DeliveryRefused
from sidecar.soc.incidents import IncidentRefused
from storage.errors import CommitUnknown, QueueTimeout, ReadTimeout, StoreError

TEXT_MAX: Final = 300


def _table(*kinds: tuple[str, int, str, str]) -> Mapping[str, RefusalKind]:
    return {kind[0]: RefusalKind(*kind) for kind in kinds}


#: Every code the API itself answers with; what a room refuses has that room's code.
PROBLEMS: Final = _table(
    (
        "unauthenticated",
        401,
        "Who asks is not known",
        "Send a key of this sidecar as `Authorization: Bearer KEY`.",
    ),
    (
        "role_required",
        403,
        "Your roles do not allow this",
        "Ask an admin of your tenant for a key with one of the roles named.",
    ),
    (
        "unknown_parameter",
        400,
        "There is no such parameter here",
        "Leave it out; `/v1/openapi.json` names the parameters of every route.",
    ),
    (
        "invalid_parameter",
        400,
        "A parameter has no proper value",
        "Send it once, as `/v1/openapi.json` describes it.",
    ),
    (
        "invalid_cursor",
        400,
        "The cursor is not one of this list",
        "Begin again without `cursor`. A cursor is good for the route and the filters it came "
        "from, on every sidecar of the store.",
    ),
    (
        "invalid_body",
        400,
        "The body is not what this route takes",
        "Send one JSON object as `/v1/openapi.json` describes it.",
    ),
    (
        "malformed_request",
        400,
        "The request is malformed",
        "Send a well-formed request, with no body where none is asked for.",
    ),
    (
        "not_found",
        404,
        "There is no such thing here",
        "Look at the list it should be in.",
    ),
    (
        "not_kept",
        404,
        "This sidecar keeps no such thing",
        "The operator sees in README which settings it needs.",
    ),
    (
        "method_not_allowed",
        405,
        "This method is not served here",
        "The header Allow names those that are.",
    ),
    (
        "request_timeout",
        408,
        "The body took too long to arrive",
        "Send it faster, or smaller.",
    ),
    (
        "refused",
        409,
        "That cannot be done as things stand",
        "Look at it again, then try again.",
    ),
    (
        "body_too_large",
        413,
        "The body is too large",
        "Send less.",
    ),
    (
        "unsupported_media_type",
        415,
        "Bodies are JSON in UTF-8 here",
        "Send `Content-Type: application/json`, and the body without Content-Encoding.",
    ),
    (
        "form_not_ours",
        403,
        "This form was not sent from a page of this console",
        "Open the page again, in the browser you signed in with, and send its form.",
    ),
    (
        "read_timeout",
        503,
        "The store took too long to answer",
        "Ask for less at once: a shorter time, a smaller limit.",
    ),
    (
        "too_busy",
        503,
        "Too many requests are being answered",
        "Try again in a moment.",
    ),
    (
        "store_unavailable",
        503,
        "The store does not answer",
        "Try again; the operator sees the cause in `store status`.",
    ),
    (
        "internal_error",
        503,
        "The sidecar failed on this request",
        "Tell the operator; the log names the cause.",
    ),
)
#: What is said where something may have been recorded.
LOOK_FIRST: Final = (
    "Look whether it was, before you do it again; the operator sees the cause in `store status`."
)
#: What is said of a path that no route has.
ALL_ROUTES: Final = "`/v1/openapi.json` names every route, and is asked for with the key."
#: How long whoever finds the sidecar busy should wait, in seconds.
RETRY_AFTER_S: Final = 1
#: Codes of rooms that say: there is no such thing.
_UNKNOWN: Final = frozenset(
    {
        "unknown_agent", "unknown_alert", "unknown_containment", "unknown_incident", "unknown_key",
        "unknown_tenant", "unknown_upstream", "not_drifted", "not_pinned",
    }
)  # fmt: skip
#: Codes of rooms that say: that is no name, no reason, no expiry.
_ILL_FORMED: Final = frozenset(
    {"bad_action", "bad_expiry", "bad_key", "bad_name", "bad_note", "bad_reason"}
)
#: Codes of rooms that say: not now.
_NOT_NOW: Final = frozenset({"store_fenced", "store_moved", "shutting_down"})


class Problem(BaseModel):
    """What is answered instead of what was asked for (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(description="stable, for programs")
    title: str
    status: int
    detail: str = Field(description="what it is about, for people")
    next_step: str = Field(description="what can be done about it")
    parameter: str | None = Field(None, description="the parameter or member that is wrong")


class ApiProblem(Exception):
    """Why there is no answer; `parameter` names what of the request is wrong."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        parameter: str | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        kind = PROBLEMS[code]
        super().__init__(f"{code}: {detail or kind.title}")
        self.allow = tuple(allow)
        self.said = Problem(
            code=code,
            title=kind.title,
            status=kind.status,
            detail=detail or kind.title,
            next_step=kind.next_step,
            parameter=parameter,
        )


def not_found(what: str, name: str | int) -> ApiProblem:
    """The same for what another tenant has and for what nobody has."""
    return ApiProblem("not_found", f"there is no {what} {_shown(name)}")


def problem_of(error: Exception) -> Problem | None:
    """What an error of a room below is to whoever asked; None for one that nobody expected."""
    if isinstance(error, ApiProblem):
        return error.said
    if isinstance(error, NoProof | TreeIncomplete):
        return ApiProblem("not_found", str(error)).said
    if isinstance(error, ReadTimeout):
        return ApiProblem("read_timeout").said
    if isinstance(error, CommitUnknown | QueueTimeout):
        detail = f"the store says {error.code}: whether it was recorded is not known"
        said = ApiProblem("store_unavailable", detail).said
        return said.model_copy(update={"next_step": LOOK_FIRST})
    if isinstance(error, StoreError):
        # The text of an engine may tell of servers and files: it is for the log.
        return ApiProblem("store_unavailable", f"the store says {error.code}").said
    if isinstance(error, ApprovalRefused | DeliveryRefused):
        return _said(error.code, error.title, error.next_step, error.status)
    if isinstance(error, RunCareRefused | ToolCareRefused | ChangeRefused | IncidentRefused):
        if isinstance(error.__cause__, StoreError):
            return problem_of(error.__cause__)
        return _said(error.code, error.title, error.next_step, _status_of(error.code))
    return None


def _status_of(code: str) -> int:
    if code in _UNKNOWN:
        return 404
    if code in _ILL_FORMED:
        return 400
    return 503 if code in _NOT_NOW or code.startswith(("store_", "queue_")) else 409


def _said(code: str, title: str, next_step: str, status: int) -> Problem:
    kind = PROBLEMS["not_found"] if status == 404 else None
    return Problem(
        code=code if kind is None else kind.code,
        title=title if kind is None else kind.title,
        status=status,
        detail=title,
        next_step=next_step or PROBLEMS["refused"].next_step,
        parameter=None,
    )


def _shown(value: str | int) -> str:
    return str(value) if isinstance(value, int) else ascii(value[:TEXT_MAX])
