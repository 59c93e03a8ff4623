"""Why a call is judged as it is, rule by rule: one that is described, or one that is recorded.

Knows: that a described call is read as `policy explain` reads it, with agents of the tenant only;
that of a recorded one some things are not known any more, and which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic import Field

from sidecar.control.api.candidates import PROBLEMS_TOLD_MAX, ProblemShape
from sidecar.control.api.parameters import in_path
from sidecar.control.api.policies import may_be_about
from sidecar.control.api.problems import ApiProblem, not_found
from sidecar.control.api.route import READERS, Asked, Body, Route, Shape
from sidecar.errors import Refused
from sidecar.json_nodes import node_of
from sidecar.kept_id import kept_id
from sidecar.ledger.recorded_call import NotReplayable, RecordedCall, recorded_call
from sidecar.model import Principal
from sidecar.policy.case_file import Case, read_call
from sidecar.policy.case_runner import explain_call
from sidecar.policy.explain import Explanation, explain
from sidecar.policy.explain_text import explanation_data
from sidecar.policy.fields import Problems
from sidecar.policy.replay import under_set
from sidecar.problems import Position, Problem

ROOM: Final = "policies"
EXPLAIN_S: Final = 20.0
#: Deepest nesting of a described call.
DEPTH_MAX: Final = 64


class Question(Body):
    """A call as `policy explain --call` takes it: {call, args, agent, http, claims, now, after};
    `call` is a tool, or {method, path, body}."""

    call: dict[str, Any]


class ThenShape(Shape):
    """What was decided when the call was made."""

    effect: str
    code: str
    rule: str | None
    revision: str
    receipt: int


class ExplanationShape(Shape):
    """The decision under the set in force, every rule that names the tool with what it checked,
    and what is not known of the call (`hidden`). A call that is refused before any rule is
    asked has none; `recorded` is of a recorded call. Of a call that cannot be read there are
    `problems` and no decision."""

    decision: dict[str, Any] | None
    problems: list[ProblemShape] = Field(default_factory=list)
    tool: dict[str, Any] | None = None
    agent: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    now: str | None = None
    rules: list[dict[str, Any]]
    other_rules: int = 0
    hidden: list[str] = Field(default_factory=list)
    recorded: ThenShape | None = None


async def explain_described(asked: Asked) -> dict[str, Any]:
    """Explains a described call under the set in force."""
    case, problems = _case(asked, asked.body.call)
    if case is None:
        wrong = [one.as_json() for one in problems[:PROBLEMS_TOLD_MAX]]
        return {"decision": None, "rules": [], "problems": wrong}
    kinds = {name: one.kind for name, one in asked.rooms.config.upstreams.items()}
    work = partial(
        explain_call, asked.rooms.policies.current, kinds, case, asked.rooms.route_request
    )
    try:
        return _told(asked, await asked.rooms.backroom.do(asked.person, work))
    except Refused as refused:
        return _refused(refused)


def _refused(refused: Refused) -> dict[str, Any]:
    """Of a call that meets no rule."""
    said = {"effect": "deny", "code": refused.code, "reason": refused.reason}
    return {"decision": said, "rules": []}


def _case(asked: Asked, call: Mapping[str, Any]) -> tuple[Case | None, list[Problem]]:
    place, problems = Position("call"), Problems()
    if _depth(call) > DEPTH_MAX:
        return None, [Problem(place, "it is nested too deep")]
    if has_nul(call):
        return None, [Problem(place, "a text holds NUL")]
    case = read_call(node_of(call, place), problems, _agents(asked))
    if case is None:
        return None, problems.found
    of_tenant = replace(case.principal, tenant=asked.tenant)
    return replace(case, principal=of_tenant), []


def has_nul(value: Any) -> bool:
    """Whether a text in it has NUL, at which conditions would cut it."""
    if isinstance(value, dict):
        return any(has_nul(name) or has_nul(member) for name, member in value.items())
    if isinstance(value, list):
        return any(has_nul(member) for member in value)
    return isinstance(value, str) and "\0" in value


def _agents(asked: Asked) -> list[Principal] | None:
    tenant = asked.rooms.config.tenants.get(asked.tenant)
    return [
        Principal(asked.tenant, name, one.team, one.environment, one.risk, one.trust)
        for name, one in (tenant.agents if tenant is not None else {}).items()
    ] or None


async def explain_recorded(asked: Asked) -> dict[str, Any]:
    """Explains a recorded call under the set in force."""
    reader, call_id = asked.rooms.reader, kept_id(str(asked.values["call_id"]))
    receipts = await reader.receipts_of_call(asked.tenant, call_id)
    if not receipts:
        raise not_found("decision", call_id)
    beside = await reader.call_facts(asked.tenant, receipts[0].seq)
    try:
        recorded = recorded_call(receipts[0], beside)
    except NotReplayable as error:
        raise ApiProblem("refused", f"this call cannot be judged again: {error}") from error
    try:
        told = _told(
            asked, await asked.rooms.backroom.do(asked.person, partial(_again, asked, recorded))
        )
    except Refused as refused:
        told = _refused(refused)
    return {
        **told,
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
    call, hidden = under_set(policy_set, recorded.call, recorded.hidden)
    return explain(
        policy_set, recorded.principal, call, recorded.at_us, run=recorded.run, hidden=hidden
    )


def _told(asked: Asked, found: Explanation) -> dict[str, Any]:
    """A rule that cannot be about the tenant is not shown to it, and not counted."""
    shown = tuple(one for one in found.accounts if may_be_about(one.rule, asked.tenant))
    rules = asked.rooms.policies.current.rules
    unseen = sum(not may_be_about(one, asked.tenant) for one in rules)
    others = found.other_rules + len(found.accounts) - len(shown) - unseen
    told = replace(found, accounts=shown, other_rules=max(0, others))
    return explanation_data(told, asked.rooms.policies.places)


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
        "Why a call would be judged as it would, rule by rule", READERS, explain_described,
        ExplanationShape, body=Question, time_limit_s=EXPLAIN_S, room=ROOM,
    ),
    Route(
        "explain_decision", "GET", "/v1/decisions/{call_id}/explanation",
        "Why a recorded call would be judged as it would now, rule by rule",
        READERS, explain_recorded, ExplanationShape, (in_path("call_id", "its id"),),
        problems=("not_found", "refused"), time_limit_s=EXPLAIN_S, room=ROOM,
    ),
)  # fmt: skip
