"""Three sets of policies, each of three files, such that no mixture of them answers as one does.

Knows: the files of each set, its revision and the hashes of its rules as loading them here gives
them, and what an answer and a receipt tell of the files they come from: the reason of a policy
names the set it belongs to and, by a label, the set of the catalogue.
Must not know: how files are swapped, when a set is in force.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sidecar.policy.load import Source, load_policies

NUMBERS = (1, 2, 3)
PATHS = ("/up/first", "/up/open", "/up/second")
#: One of these, on its own, is no file that can be loaded.
HALF_WRITTEN = "policy: second\nrules:\n  - {id: second, effect: den"

_CATALOGUE = """\
catalogue: up
tools:
  first: {{route: GET /first, labels: c{0}}}
  second: {{route: GET /second, labels: c{0}}}
  open: {{route: GET /open, labels: c{0}}}
"""
_FIRST = """\
policy: first
rules:
  - {{id: first, effect: deny, tools: up/first, reason: "{0} of {{tool.labels}}"}}
  - id: open
    effect: allow
    tools: up/open
    reason: "{0} of {{tool.labels}}"
    obligations: {{headers: {{set: {{x-first: "{0}"}}}}}}
"""
_SECOND = """\
policy: second
rules:
  - {{id: second, effect: deny, tools: up/second, reason: "{0} of {{tool.labels}}"}}
  - {{id: open-too, tools: up/open, obligations: {{headers: {{set: {{x-second: "{0}"}}}}}}}}
"""
_SAID = re.compile(r"([0-9]) of c([0-9])")


def files_of(number: int) -> dict[str, str]:
    """The files of a set, by name."""
    texts = {"catalogue.yaml": _CATALOGUE, "first.yaml": _FIRST, "second.yaml": _SECOND}
    return {name: text.format(number) for name, text in texts.items()}


@dataclass(frozen=True)
class Known:
    """What a set is known by in receipts."""

    number: int
    revision: str
    rule_hashes: dict[str, str]


def known_sets() -> dict[str, Known]:
    """The three sets by revision."""
    found = {}
    for number in NUMBERS:
        sources = [Source(name, text.encode()) for name, text in files_of(number).items()]
        loaded = load_policies(
            sources, upstreams={"up": "rest"}, default="deny", read_file=lambda *_: b""
        )
        assert loaded.policy_set is not None, loaded.problems
        hashes = {rule.rule_id: rule.match.rule_hash for rule in loaded.policy_set.rules}
        revision = loaded.policy_set.revision
        found[revision] = Known(number, revision, hashes)
    assert len(found) == len(NUMBERS)
    return found


def told_by(answer: str) -> frozenset[int]:
    """The sets whose files made an answer: one, or the answer is a mixture."""
    found = _SAID.search(answer)
    return frozenset(int(one) for one in found.groups()) if found else frozenset()


def told_by_receipt(receipt: dict[str, Any], known: dict[str, Known]) -> frozenset[int]:
    """The sets that a decision on record is of, by whatever tells one; 0 is none that is known."""
    facts = receipt["facts"]
    sets = set(told_by(facts["reason"])) or {0}
    sets |= {int(label[1:]) for label in facts["labels"]}
    one = known.get(receipt["policy_revision"])
    sets.add(one.number if one is not None else 0)
    if one is not None:
        hashes = {match[0]: one.rule_hashes.get(match[0]) for match in facts["matches"]}
        if (
            one.rule_hashes.get(receipt["rule_id"]) != receipt["rule_hash"]
            or None in hashes.values()
        ):
            sets.add(0)
    return frozenset(sets)
