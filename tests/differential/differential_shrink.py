"""A difference made small: whatever can go while the two sides still differ, goes.

Knows: which parts of a set and a call can be left out. Must not know: why the sides differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pprint import pformat
from typing import Any

from differential_compare import Compared, Pair, compare
from differential_product import Refused
from twin_world import Call, World
from written_yaml import files

#: Keys without which a rule is none.
KEPT = ("id", "tools")
ATTEMPTS_MAX = 400


def reproduction(where: str, world: World, call: Call, compared: Compared) -> str:
    """A difference as text: where it was found, how the sides differ, the files, the call."""
    lines = [where, *(f"  {key}: {text}" for key, text in compared.differences.items())]
    lines += [f"  {one.rule_id}: {one.error}" for one in compared.decision.matches if one.error]
    lines += [f"default: {world.default}", f"upstreams: {world.upstreams}"]
    for name, text in files(world).items():
        lines += [f"### {name}", text.rstrip()]
    lines.append(pformat(dataclasses.asdict(call), sort_dicts=False, width=100))
    return "\n".join(lines)


def shrunk(world: World, call: Call, compared: Compared) -> tuple[World, Call, Compared]:
    """The least that still shows one of the differences. A bucket is a matter of two calls: where
    one alone does not show it, all stays as it is."""
    wanted = set(compared.differences)
    only_named = _only(world, _named(compared))
    found = _differing(only_named, call)
    if found is not None and wanted & found.differences.keys():
        world, compared = only_named, found
    attempts, is_smaller = 0, True
    while is_smaller:
        is_smaller = False
        for less_world, less_call in _lesser(world, call):
            attempts += 1
            if attempts > ATTEMPTS_MAX:
                return world, call, compared
            found = _differing(less_world, less_call)
            if found is not None and wanted & found.differences.keys():
                world, call, compared, is_smaller = less_world, less_call, found, True
                break
    return world, call, compared


def _named(compared: Compared) -> set[str]:
    """The rules that one side or the other says something of."""
    answer, decision = compared.answer, compared.decision
    matched = {name for name, *_ in answer.matched}
    failed = {name for name, _ in answer.failed}
    return matched | failed | {one.rule_id for one in decision.matches}


def _only(world: World, names: set[str]) -> World:
    policies = [
        {
            **policy,
            "rules": [
                rule for rule in policy["rules"] if f"{policy['policy']}/{rule['id']}" in names
            ],
        }
        for policy in world.policies
    ]
    return dataclasses.replace(world, policies=policies)


def _differing(world: World, call: Call) -> Compared | None:
    try:
        return compare(Pair.of(world), call)
    except (Refused, KeyError):  # a rule lost a name it reads, or a tool
        return None


def _lesser(world: World, call: Call) -> Iterator[tuple[World, Call]]:
    """The pair with one thing less, large things first."""
    for number, policy in enumerate(world.policies):
        others = [*world.policies[:number], *world.policies[number + 1 :]]
        yield dataclasses.replace(world, policies=others), call
        for smaller in _smaller_policies(policy):
            changed = [*world.policies[:number], smaller, *world.policies[number + 1 :]]
            yield dataclasses.replace(world, policies=changed), call
    for number, catalogue in enumerate(world.catalogues):
        for name in catalogue["tools"]:
            rest = {key: one for key, one in catalogue["tools"].items() if key != name}
            changed = [*world.catalogues]
            changed[number] = {**catalogue, "tools": rest}
            yield dataclasses.replace(world, catalogues=changed), call
    for name in call.args:
        yield world, dataclasses.replace(call, args=_without(call.args, name))
    if call.run is not None:
        yield world, dataclasses.replace(call, run=None)


def _smaller_policies(policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rules = policy["rules"]
    for number in range(len(rules)):
        yield {**policy, "rules": [*rules[:number], *rules[number + 1 :]]}
    for key in policy:
        if key not in ("policy", "rules"):
            yield _without(policy, key)
    for number, rule in enumerate(rules):
        for key in rule:
            if key not in KEPT:
                yield {
                    **policy,
                    "rules": [*rules[:number], _without(rule, key), *rules[number + 1 :]],
                }


def _without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: one for name, one in mapping.items() if name != key}
