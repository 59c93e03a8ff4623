"""Every broken file of tests/cases/detections gives exactly its problems, and never a set.

`UPDATE_CASES=1` writes what is given; read the diff.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from soc_setup import CASES, compiled, load, parts_of, tried

from sidecar.problems import Problem, errors_only
from sidecar.soc.loading import detections_of
from sidecar.soc.model import EventKind, Response, Severity

PACKS = CASES.parents[2] / "policies"
FILES = sorted(CASES.glob("*.yaml"))
#: Loads, with something said of it.
ONLY_WARNED = ("label-nobody-carries", "fits-no-tool", "respond-less")


def said_of(path: Path) -> list[Problem]:
    files = {name: text for name, text in parts_of(path).items() if name != "problems"}
    return tried(files)[1] if path.stem.startswith("test-") else load(files).problems


def shown(problems: list[Problem]) -> str:
    return "\n".join(map(str, problems))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_d2_d3_a_broken_detection_has_each_problem_in_place_and_keeps_the_set_away(
    path: Path,
) -> None:
    parts, found = parts_of(path), said_of(path)
    if os.environ.get("UPDATE_CASES"):
        kept = "".join(f"### {name}\n{text}" for name, text in parts.items() if name != "problems")
        path.write_text(f"{kept}### problems\n{shown(found)}\n")
        return
    assert shown(found) == parts["problems"].rstrip("\n")
    for problem in found:
        at = problem.position
        lines = parts[at.source].split("\n")
        assert 1 <= at.line <= len(lines) and 1 <= at.column <= len(lines[at.line - 1]) + 1
    assert bool(errors_only(found)) is (path.stem not in ONLY_WARNED)
    if not path.stem.startswith("test-"):
        files = {name: text for name, text in parts.items() if name != "problems"}
        assert (load(files).policy_set is None) is (path.stem not in ONLY_WARNED)


def test_there_are_many_cases() -> None:
    assert len(FILES) >= 50


LANGUAGE = """detection: deny-storm
severity: high
event: decision
where: {effect: deny}
by: agent
at_least: 5
within: 60s
reason: "{agent.name}: {count} refusals in {within}"
quiet: 1h
respond: {action: freeze-agent, for: 1h}
"""


def test_the_detection_of_the_language_is_read_as_it_says() -> None:
    found = compiled(LANGUAGE).named("deny-storm")
    assert found is not None
    assert (found.severity, found.event, found.by) == (
        Severity.HIGH, EventKind.DECISION, ("agent",),
    )  # fmt: skip
    assert (found.at_least, found.within_us, found.quiet_us) == (5, 60_000_000, 3_600_000_000)
    assert found.wanted[0].heard.effects == {"deny"}
    assert found.respond == Response("freeze-agent", 3_600_000_000)


def test_what_is_left_out_is_what_the_language_says() -> None:
    found = compiled("detection: any\nseverity: info\n").named("any")
    assert found is not None
    assert (found.event, found.by, found.at_least) == (EventKind.DECISION, ("agent",), 1)
    assert found.quiet_us == 3_600_000_000 and found.respond is None
    assert found.reason.parts == ("any",)
    of_chain = compiled("detection: c\nseverity: info\nevent: chain\n").named("c")
    assert of_chain is not None and of_chain.by == ("tenant",)


def test_detections_have_a_revision_of_their_own() -> None:
    policy = "policy: p\nrules:\n  - {id: a, effect: allow, tools: 'crm/*'}\n"
    catalogue = "catalogue: crm\ntools: {get: {}}\n"
    plain = load({"p.yaml": policy, "c.yaml": catalogue})
    watched = load({"p.yaml": policy, "c.yaml": catalogue, "d.yaml": LANGUAGE})
    commented = load({"p.yaml": policy, "c.yaml": catalogue, "e.yaml": f"# why\n{LANGUAGE}"})
    other = LANGUAGE.replace("at_least: 5", "at_least: 6")
    changed = load({"p.yaml": policy, "c.yaml": catalogue, "d.yaml": other})
    sets = [one.policy_set for one in (plain, watched, commented, changed)]
    assert None not in sets and len({one.revision for one in sets if one is not None}) == 1
    revisions = [detections_of(one).revision for one in (plain, watched, commented, changed)]
    assert revisions[0] == "" and revisions[1] == revisions[2] != revisions[3]


@pytest.mark.parametrize(
    "catalogue", ["", "catalogue: crm\ntools: {}\n", "catalogue: crm\ntools: {a: {}}\n"]
)
def test_the_shipped_detections_load_with_any_catalogue_and_stand_in_the_readme(
    catalogue: str,
) -> None:
    files = {path.name: path.read_text() for path in sorted((PACKS / "soc").glob("*.yaml"))}
    loaded = load({**files, **({"c.yaml": catalogue} if catalogue else {})})
    assert errors_only(loaded.problems) == []
    found = {one.name: one.severity.label for one in detections_of(loaded).all}
    assert len(found) == 14
    readme = (PACKS / "README.md").read_text()
    told = re.findall(r"^\| ([a-z]+) \| `([a-z-]+)` \|", readme, re.MULTILINE)
    assert {name: severity for severity, name in told} == found
