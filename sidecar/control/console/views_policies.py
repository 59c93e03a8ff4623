"""The pages of policies: the set in force, its files with marks at the rules, an explanation, and
what the rules in shadow would change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sidecar.control.api.policies import may_be_about
from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.route import Asked
from sidecar.control.console.page import listed, route_of, told, whole
from sidecar.model import Mode
from storage.listings import DIFFERENCES_LOOKED_AT

RULES_MAX: Final = 200
#: Calls that the first page shows of those that rules in shadow would have decided otherwise.
DIFFERENCES_MAX: Final = 10
#: Characters of a described call.
CALL_MAX: Final = 32_000


async def policies(asked: Asked) -> Mapping[str, Any]:
    """The set in force and its rules; and, of a described call, why it would be judged so."""
    (found,) = await told("list_policies", asked)
    rules = await told("list_rules", asked, limit=RULES_MAX)
    in_shadow = await told("list_rules", asked, mode=Mode.SHADOW.value, limit=RULES_MAX)
    differences = await told("list_shadow_differences", asked, limit=DIFFERENCES_MAX)
    described = asked.values["describe"]
    places = asked.rooms.policies.places
    return {
        "set": found,
        "readable": _readable(asked),
        "rules": [{**rule, "at": places.get(rule["rule"])} for rule in rules.items],
        "more_rules": rules.next is not None,
        "in_shadow": [{**rule, "at": places.get(rule["rule"])} for rule in in_shadow.items],
        "more_in_shadow": in_shadow.next is not None,
        "shadow": await told("get_shadow", asked),
        "differences": differences.items,
        "more_differences": differences.next is not None,
        "looked_at": DIFFERENCES_LOOKED_AT,
        "described": described or _example(asked),
        "explained": await _explained(asked, described) if described else None,
    }


async def shadow_differences(asked: Asked) -> Mapping[str, Any]:
    """Calls that the rules in shadow would have decided otherwise, page by page."""
    found = await listed("list_shadow_differences", asked)
    return {"differences": found.items, "next": found.next, "looked_at": DIFFERENCES_LOOKED_AT}


async def policy_file(asked: Asked) -> Mapping[str, Any]:
    """One file of the set in force, as it stands on disk now, with the lines at which its rules
    begin and those of problems. Raises ApiProblem for any other file."""
    name = asked.values["file"]
    keeper = asked.rooms.policies
    if name not in _readable(asked):
        raise ApiProblem("not_found", "the set in force has no such file that is yours to read")
    try:
        text = await asyncio.to_thread(keeper.text_of, name)
    except OSError as error:
        raise ApiProblem("not_found", f"{name} cannot be read: {error.strerror}") from error
    marks: dict[int, list[str]] = {}
    for rule_id, place in keeper.places.items():
        if place.source == name:
            marks.setdefault(place.line, []).append(rule_id)
    in_shadow = {rule.rule_id for rule in keeper.current.rules if rule.is_shadow}
    wrong: dict[int, list[str]] = {}
    for problem in keeper.problems:
        if problem.position.source == name:
            wrong.setdefault(problem.position.line, []).append(problem.message)
    return {
        "file": name,
        "lines": [
            {"number": number, "text": line, "problems": wrong.get(number, []),
             "rules": [{"rule": one, "is_shadow": one in in_shadow}
                       for one in marks.get(number, [])]}
            for number, line in enumerate(text.splitlines(), 1)
        ],
    }  # fmt: skip


def _readable(asked: Asked) -> frozenset[str]:
    """The files that may be read by this tenant: where there are others, those with policies and
    catalogues in which no rule is about others alone."""
    keeper = asked.rooms.policies
    if len(asked.rooms.config.tenants) == 1:
        return frozenset(keeper.files)
    others = {rule.rule_id for rule in keeper.current.rules if not may_be_about(rule, asked.tenant)}
    with_others = {place.source for name, place in keeper.places.items() if name in others}
    return frozenset(place.source for place in keeper.places.values()) - with_others


def _example(asked: Asked) -> str:
    """A call to begin with: of the first tool there is."""
    names = (tool.name for tool in asked.rooms.policies.current.catalogue.tools)
    return json.dumps({"call": min(names, default="upstream/operation"), "args": {}})


async def _explained(asked: Asked, text: str) -> Any:
    route = route_of("explain_policies")
    try:
        call = json.loads(text)
        if not isinstance(call, dict) or route.body is None:
            raise ValueError("not a JSON object")
    except (ValueError, RecursionError):
        return {"problem": "Describe the call as a JSON object."}
    try:
        body = route.body.model_validate({"call": call})
        return whole(route.name, await route.handler(replace(asked, values={}, body=body)))
    except ApiProblem as problem:
        return {"problem": problem.said.detail}
