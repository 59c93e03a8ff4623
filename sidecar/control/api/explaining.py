"""Why a call is judged as it is, rule by rule: one that is described, or one that is recorded.

Knows: that a described call is read as `policy explain` reads it, with agents of the tenant only;
that of a recorded one some things are not known any more, and which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic import Field, model_validator

from sidecar.control.api.problems import ApiProblem, not_found
from sidecar.control.api.route import READERS, Asked, Body, Route, Shape
from sidecar.errors import Refused
from sidecar.json_nodes import node_of
from sidecar.ledger.recorded_call import NotReplayable, RecordedCall, recorded_call
from sidecar.model import Principal
from sidecar.policy.case_file import Case, read_call
from sidecar.policy.case_runner import explain_call
from sidecar.policy.explain import Explanation, explain
from sidecar.policy.explain_text import explanation_data
from sidecar.policy.fields import Problems
from sidecar.policy.replay import under_set
from sidecar.problems import Position

ROOM: Final = "policies"
EXPLAIN_S: Final = 20.0
#: Deepest nesting of a described call.
DEPTH_MAX: Final = 64


class Question(Body):
    """A call as `policy explain --call` takes it ({call, args, agent, http, claims, now, after};
    `call` is a tool, or {method, path, body}), or the id of one that is recorded."""

    call: dict[str, Any] | None = None
    call_id: str | None = Field(None, min_length=1, max_length=256)

    @model_validator(mode="after")
    def _one_of_both(self) -> Question:
        if (self.call is None) == (self.call_id is None):
            raise ValueError("give either call or call_id")
        return self


class ThenShape(Shape):
    """What was decided when the call was made."""

    effect: str
    code: str
    rule: str | None
    revision: str
    receipt: int


class ExplanationShape(Shape):
    """The decision under the set in force, every rule that names the tool with what it checked,
    and what is not known of the call (`hidden`). `refused` is why it is refused before any rule
    is asked; `recorded` is of a recorded call."""

    decision: dict[str, Any]
    tool: dict[str, Any] | None = None
    agent: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    now: str | None = None
    rules: list[dict[str, Any]]
    other_rules: int = 0
    hidden: list[str] = Field(default_factory=list)
    recorded: ThenShape | None = None


async def explain_policies(asked: Asked) -> dict[str, Any]:
    """Explains under the set in force."""
    if asked.body.call_id is not None:
        return await _recorded(asked, asked.body.call_id)
    case = _case(asked, asked.body.call)
    kinds = {name: one.kind for name, one in asked.rooms.config.upstreams.items()}
    work = partial(
        explain_call, asked.rooms.policies.current, kinds, case, asked.rooms.route_request
    )
    try:
        return _told(asked, await asked.rooms.backroom.do(work))
    except Refused as refused:
        said = {"effect": "deny", "code": refused.code, "reason": refused.reason}
        return {"decision": said, "rules": []}


def _case(asked: Asked, call: Mapping[str, Any]) -> Case:
    if _depth(call) > DEPTH_MAX:
        raise ApiProblem("invalid_body", "it is nested too deep", parameter="call")
    problems = Problems()
    case = read_call(node_of(call, Position("call")), problems, _agents(asked))
    if case is None:
        said = "; ".join(str(one) for one in problems.found[:5])
        raise ApiProblem("invalid_body", said, parameter="call")
    return replace(case, principal=replace(case.principal, tenant=asked.tenant))


def _agents(asked: Asked) -> list[Principal] | None:
    tenant = asked.rooms.config.tenants.get(asked.tenant)
    return [
        Principal(asked.tenant, name, one.team, one.environment, one.risk, one.trust)
        for name, one in (tenant.agents if tenant is not None else {}).items()
    ] or None


async def _recorded(asked: Asked, call_id: str) -> dict[str, Any]:
    reader = asked.rooms.reader
    receipts = await reader.receipts_of_call(asked.tenant, call_id)
    if not receipts:
        raise not_found("decision", call_id)
    beside = await reader.call_facts(asked.tenant, receipts[0].seq)
    try:
        recorded = recorded_call(receipts[0], beside)
    except NotReplayable as error:
        raise ApiProblem("refused", f"this call cannot be judged again: {error}") from error
    found = await asked.rooms.backroom.do(partial(_again, asked, recorded))
    return {
        **_told(asked, found),
        "recorded": {
            "effect": recorded.effect,
            "code": recorded.code,
            "rule": recorded.rule_id,
            "revision": recorded.revision,
            "receipt": recorded.seq,
        },
    }


def _again(asked: Asked, recorded: RecordedCall) -> Explanation:
    policy_set = asked.rooms.policies.current
    call = under_set(policy_set, recorded.call)
    return explain(
        policy_set, recorded.principal, call, recorded.at_us, run=recorded.run,
        hidden=recorded.hidden,
    )  # fmt: skip


def _told(asked: Asked, found: Explanation) -> dict[str, Any]:
    return explanation_data(found, asked.rooms.policies.places)


def _depth(value: Any) -> int:
    """How deep a value is nested."""
    depth, level = 0, [value]
    while level:
        depth += 1
        below = [one.values() if isinstance(one, dict) else one for one in level
                 if isinstance(one, dict | list)]  # fmt: skip
        level = [member for members in below for member in members]
        if depth > DEPTH_MAX:
            break
    return depth


ROUTES: Final = (
    Route(
        "explain_policies", "POST", "/v1/policies/explain",
        "Why a call is judged as it is, rule by rule", READERS, explain_policies,
        ExplanationShape, body=Question, problems=("not_found", "refused"),
        time_limit_s=EXPLAIN_S, room=ROOM,
    ),
)  # fmt: skip
