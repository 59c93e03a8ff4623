"""What agents use of `/v1`, as the OpenAPI document tells of it. Pure.

Knows: the members of requests and answers, whose limits are those of `request`; that agents are
answered in an envelope of their own where people get a problem, and show credentials of their own.
Must not know: HTTP libraries, what is decided, what people may ask for.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from sidecar.authorize.answers import STATUS_REASONS
from sidecar.authorize.request import KEY_LENGTH_MAX, NAME_LENGTH_MAX, RESOURCE_LENGTH_MAX
from sidecar.control.api.openapi import Described
from sidecar.control.api.route import Body, Shape
from sidecar.model import TrustLevel

_ROOM: Final = "authorize"
_REFERENCE: Final = "#/components/schemas/{model}"
_SECURITY: Final[list[dict[str, Any]]] = [{"agent": []}, {"agent_bearer": []}]

#: JSON text with a NUL in it is refused wherever it stands.
_NO_NUL: Final = "^[^\\u0000]*$"
Name = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH_MAX, pattern=_NO_NUL)]
Kept = Annotated[str, Field(min_length=1, max_length=KEY_LENGTH_MAX, pattern=_NO_NUL)]
Resource = Annotated[str, Field(max_length=RESOURCE_LENGTH_MAX, pattern=_NO_NUL)]
#: Said in words, and not as a schema that names itself: some that make clients from the document
#: make nothing of such a schema, nor of the operation that takes it.
_PLAIN: Final = (
    "JSON that every reader reads alike: no NUL, and numbers that are written without a fraction "
    "or an exponent within ±2^53"
)
_LEVELS: Final = f"{', '.join(one.label for one in TrustLevel)}; any other word counts as unknown"
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class AgentSaid(Body):
    """What the caller says of itself: who calls is known by the credential alone."""

    id: Name
    environment: Name


class UserSaid(Body):
    """For whom the agent acts, in its words."""

    id: Name
    role: Name


class ToolCallSaid(Body):
    """The call that is meant: exactly these five members are hashed."""

    tool: Name
    action: Name
    resource: Resource | None = None
    mutates_state: bool
    parameters: Annotated[Any, Field(description=_PLAIN)]


class ContextSaid(Body):
    """What led to the call; it can only make the decision stricter."""

    source_trust: Annotated[Name, Field(description=_LEVELS)]
    contains_sensitive_data: bool | None = None


class TraceSaid(Body):
    """What the call belongs to."""

    run_id: Name
    trace_id: Name
    parent_run_id: Name | None = None
    root_trust_level: Name | None = None


class AuthorizeBody(Body):
    """A call to be judged. `request_id` makes it safe to send again, `nonce` (with `timestamp`)
    refuses a second one; `dry_run` decides and records nothing."""

    agent: AgentSaid
    tool_call: ToolCallSaid
    context: ContextSaid
    user: UserSaid | None = None
    trace: TraceSaid | None = None
    request_id: Kept | None = None
    nonce: Kept | None = None
    timestamp: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    callback: None = Field(None, description="not served: ask for the approval by its id")
    dry_run: bool | None = None


class ConsumeBody(Body):
    """The hash of the action the agent is about to carry out."""

    claimed_action_hash: Hash | None = None


class AskedApproval(Shape):
    """An approval that a decision waits for."""

    approval_id: str
    status: Literal["created"]
    approver_group: str | None
    expires_at: str
    action_hash: str


class DecisionReceipt(Shape):
    """The receipt of a decision."""

    receipt_id: str
    receipt_hash: str
    prev_receipt_hash: str
    canon_version: str
    seq: int


class AuthorizeAnswer(Shape):
    """A decision, which is durable by now. Scores are advice; nothing is decided by them."""

    decision_id: str
    decision: Literal["allow", "deny", "require_approval", "redact"]
    risk_score: int
    risk_level: str
    composite_risk_score: int
    reason: str
    matched_policies: list[str]
    approval: AskedApproval | None
    root_trust_level: str
    dry_run: bool
    redacted_fields: list[str] = Field(default_factory=list)
    receipt: DecisionReceipt | None = None


class ShownToolCall(Shape):
    """The action as approvers were shown it, masked where they were not to see it."""

    tool: str
    action: str
    resource: str | None
    mutates_state: bool
    parameters: Any


class PolledApproval(Shape):
    """An approval as the agent sees whose action waits for it."""

    approval_id: str
    status: Literal["created", "APPROVED", "REJECTED", "EXPIRED"]
    state: str
    approver_group: str | None
    approver_user_id: str | None
    reason: str | None
    action_hash: str
    original_action_hash: str
    edited_action_hash: str | None
    effective_action_hash: str
    is_edited: bool
    tool_call: ShownToolCall
    edited_tool_call: ShownToolCall | None
    agent_id: str
    user_id: str | None
    expires_at: str
    decided_at: str | None
    consumed_at: str | None


class ConsumedApproval(Shape):
    """A yes that was spent: the agent may act, once, on the action with this hash."""

    status: Literal["consumed"]
    approval_id: str
    action_hash: str
    decision_id: str
    redacted_fields: list[str] = Field(default_factory=list)
    receipt_hash: str = ""


class StatusDetails(Shape):
    """`reason` is the stable code."""

    reason: str
    next_step: str
    call_id: str
    approval_id: str = ""


class StatusEnvelope(Shape):
    """Why there is no decision."""

    kind: Literal["Status"]
    apiVersion: Literal["v1"]
    status: Literal["Failure"]
    message: str
    reason: str
    details: StatusDetails
    code: int


_ID: Final[dict[str, Any]] = {
    "name": "approval_id", "in": "path", "required": True, "description": "its id",
    "schema": {"type": "string"},
}  # fmt: skip
#: Statuses that are no answer to what was asked.
_OF_ANY: Final = (400, 401, 403, 408, 413, 415, 429, 503)
_OF_AUTHORIZE: Final = (*_OF_ANY, 404, 409)
_OF_APPROVAL: Final = (400, 401, 403, 404, 429, 503)
_OF_CONSUME: Final = (*_OF_ANY, 404, 409)


def described() -> Described:
    """Paths, schemas and ways to prove who asks."""
    paths = {
        "/v1/authorize": {
            "post": _operation(
                "authorize", "Decides on a call of a tool that is not HTTP", AuthorizeAnswer,
                _OF_AUTHORIZE, body=AuthorizeBody,
            ),
        },
        "/v1/approvals/{approval_id}": {
            "get": _operation(
                "poll_approval", "How an approval of the agent's own stands", PolledApproval,
                _OF_APPROVAL, parameters=[_ID],
            ),
        },
        "/v1/approvals/{approval_id}/consume": {
            "post": _operation(
                "consume_approval", "Spends a yes for the action it was given for",
                ConsumedApproval, _OF_CONSUME, parameters=[_ID], body=ConsumeBody,
                is_body_optional=True, security=[*_SECURITY, {"key": []}],
            ),
        },
    }  # fmt: skip
    security = {
        "agent": {"type": "apiKey", "in": "header", "name": "Aegis-Token"},
        "agent_bearer": {"type": "http", "scheme": "bearer", "description": "an agent's token"},
    }
    return Described(paths, _schemas(), security)


def _operation(
    name: str,
    summary: str,
    answer: type[BaseModel],
    statuses: tuple[int, ...],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: type[BaseModel] | None = None,
    is_body_optional: bool = False,
    security: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    responses = {"200": _answered("as asked", answer)}
    for status in sorted(statuses):
        responses[str(status)] = _answered(STATUS_REASONS[status], StatusEnvelope)
    said: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": [_ROOM],
        "security": security or _SECURITY,
        "parameters": parameters or [],
        "responses": responses,
    }
    if body is not None:
        said["requestBody"] = {
            "required": not is_body_optional,
            "content": {"application/json": {"schema": _reference(body)}},
        }
    return said


def _answered(description: str, model: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(model)}}
    return {"description": description, "content": content}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], Any]] = [
        (AuthorizeBody, "validation"), (ConsumeBody, "validation"),
        (AuthorizeAnswer, "validation"), (PolledApproval, "validation"),
        (ConsumedApproval, "validation"), (StatusEnvelope, "validation"),
    ]  # fmt: skip
    _, schema = models_json_schema(models, ref_template=_REFERENCE)
    found: dict[str, Any] = schema["$defs"]
    return found
