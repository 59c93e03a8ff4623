"""A policy or a rule leaves the shadow: the one line of its file that says so is changed.

Knows: where `mode` of a policy and of its rules stands, and that nothing else of the file, no
comment and no blank, may change.
Must not know: where files are, whether the change is wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sidecar.model import Mode
from sidecar.policy.fields import did_you_mean
from sidecar.problems import Position
from sidecar.yaml_reader import Node, read_yaml

_SHADOW = re.compile(r"""shadow|"shadow"|'shadow'""")


class NotPromotable(Exception):
    """Nothing is changed; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A file with one line changed: the place of the mode, the line before and after."""

    position: Position
    before: str
    after: str
    data: bytes


def promoted(source: str, data: bytes, rule_id: str | None) -> Promotion:
    """The policy file with `mode: enforce` where the policy (or one of its rules) has `shadow`.

    Raises NotPromotable, also where the file says it in a way that is not one line.
    """
    root, problems = read_yaml(source, data)
    if root is None or not root.is_mapping:
        raise NotPromotable(str(problems[0]) if problems else f"{source} is no policy")
    node = _mode(root, rule_id)
    before = data.decode("utf-8")
    lines = before.split("\n")
    line, column = node.position.line - 1, node.position.column - 1
    written = _SHADOW.match(lines[line], column)
    if written is None:
        raise NotPromotable(f"{node.position}: this `mode` is not one word: edit it by hand")
    changed = lines[line][:column] + Mode.ENFORCE.value + lines[line][written.end() :]
    after = "\n".join([*lines[:line], changed, *lines[line + 1 :]]).encode()
    _check(root, source, after, rule_id)
    return Promotion(node.position, lines[line].strip(), changed.strip(), after)


def _mode(root: Node, rule_id: str | None) -> Node:
    """The node that says `shadow`."""
    own: Node | None = root.value.get("mode")
    policy = root.value["policy"].plain()
    is_shadow = own is not None and own.value == Mode.SHADOW.value
    rules = _rules(root)
    shadowed = [name for name, one in rules.items() if _says_shadow(one)]
    if rule_id is None:
        if own is not None and is_shadow:
            return own
        if shadowed:
            named = ", ".join(f"{policy}/{name}" for name in shadowed)
            raise NotPromotable(f"the policy {policy} is live; in shadow are its rules: {named}")
        raise NotPromotable(f"the policy {policy} is not in shadow: there is nothing to promote")
    if rule_id not in rules:
        near = did_you_mean(rule_id, shadowed or list(rules))
        raise NotPromotable(f"the policy {policy} has no rule {rule_id!r}{near and f': {near}'}")
    if is_shadow:
        raise NotPromotable(
            f"the whole policy is in shadow, and no rule leaves a shadow policy: promote {policy}"
        )
    if rule_id not in shadowed:
        raise NotPromotable(f"{policy}/{rule_id} is not in shadow: there is nothing to promote")
    found: Node = rules[rule_id].value["mode"]
    return found


def _rules(root: Node) -> dict[str, Node]:
    listed = root.value.get("rules")
    rules = listed.value if listed is not None and listed.is_list else []
    return {
        str(one.value["id"].plain()): one for one in rules if one.is_mapping and "id" in one.value
    }


def _says_shadow(rule: Node) -> bool:
    mode = rule.value.get("mode")
    return mode is not None and mode.value == Mode.SHADOW.value


def _check(root: Node, source: str, after: bytes, rule_id: str | None) -> None:
    """What the changed file says differs from what it said in this one value."""
    wanted = root.plain()
    if rule_id is None:
        wanted["mode"] = Mode.ENFORCE.value
    else:
        rule = next(one for one in wanted["rules"] if str(one.get("id")) == rule_id)
        rule["mode"] = Mode.ENFORCE.value
    again, _ = read_yaml(source, after)
    if again is None or again.plain() != wanted:
        raise NotPromotable(f"{source}: the change would say something else: edit it by hand")
