"""What a sound test file gives and leaves alone; broken ones are in tests/cases/compile."""

from __future__ import annotations

from policy_setup import WHOLE

from sidecar.policy.case_set import CaseSet, Context, case_set, read_context
from sidecar.policy.fields import Problems
from sidecar.policy.load import Source, load_policies

POLICY = "policy: p\nrules:\n  - {id: a, effect: allow, tools: files/read}\n"
TOOLS = "catalogue: files\ntools: {read: {}}\n"


def no_file(source: str, path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


def read(parts: dict[str, str]) -> tuple[Context, list[CaseSet | None], Problems]:
    problems = Problems()
    sources = [Source(name, text.encode()) for name, text in parts.items()]
    context = read_context(sources, no_file, problems, WHOLE)
    return context, [case_set(context, file, problems) for file in context.tests], problems


def test_a_sound_file_has_none() -> None:
    test = "test: p\ncases:\n  - {name: a, call: files/read, expect: allow, by: p/a}\n"
    context, sets, problems = read({"t.yaml": TOOLS, "p.yaml": POLICY, "p_test.yaml": test})
    assert problems.found == [] and len(sets) == 1
    assert sets[0] is not None and sets[0].policy_set.rule_count == 1
    assert context.places["p/a"].source == "p.yaml"


def test_test_files_beside_policies_change_nothing_that_is_loaded() -> None:
    test = "test: p\ncases: broken beyond use\n---\ntest: q\n"
    sources = [Source("t.yaml", TOOLS.encode()), Source("p.yaml", POLICY.encode())]
    revisions = []
    for more in ([], [Source("p_test.yaml", test.encode())]):
        loaded = load_policies(
            [*sources, *more], upstreams={"files": "mcp"}, default="deny", read_file=no_file
        )
        assert loaded.policy_set is not None and loaded.problems == []
        revisions.append(loaded.policy_set.revision)
    assert revisions[0] == revisions[1]


def test_only_named_policies_are_under_test() -> None:
    other = POLICY.replace("policy: p", "policy: q").replace("allow", "deny")
    test = "test: p\ncases:\n  - {name: a, call: files/read, expect: allow}\n"
    parts = {"t.yaml": TOOLS, "p.yaml": POLICY, "q.yaml": other, "p_test.yaml": test}
    context, sets, problems = read(parts)
    assert problems.found == []
    assert sets[0] is not None
    assert [rule.rule_id for rule in sets[0].policy_set.rules] == ["p/a"]
    assert len(context.rules) == 2
