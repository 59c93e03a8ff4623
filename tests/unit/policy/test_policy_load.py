"""Loading: what the revision and a rule's hash cover, which files are passed over, packs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_setup import PACKS, errors, load, policies, read_pack, shown

from sidecar.config.model import Approvals
from sidecar.policy.index import PolicySet
from sidecar.policy.load import Source, load_policies
from sidecar.problems import errors_only

TOOLS = "catalogue: files\ntools: {read: {mutates: false}, write: {}}\n"
POLICY = """policy: p
constants: {limit: 5, other: 6}
variables: {big: args.n > constants.limit, small: args.n < constants.other}
rules:
  - id: a
    effect: deny
    tools: files/write
    when: variables.big
  - id: b
    effect: deny
    tools: files/write
    when: variables.small
"""


def hashes(policy_set: PolicySet) -> dict[str, str]:
    plan = policy_set.plan(policy_set.catalogue.tools[1])
    return {rule.rule_id: rule.match.rule_hash for rule in plan._rules}


def test_the_revision_covers_content_and_nothing_else() -> None:
    one = policies(POLICY, TOOLS)
    assert len(one.revision) == 32 and int(one.revision, 16) >= 0
    same = [
        policies(TOOLS, POLICY),
        policies("# a comment\n" + POLICY.replace("    effect", "    # why\n    effect"), TOOLS),
        policies(POLICY, TOOLS, names=("z.yaml", "y.yaml")),
    ]
    other = [
        policies(POLICY, TOOLS, default="observe"),
        policies(POLICY, TOOLS.replace("write: {}", "write: {risk: high}")),
        policies(POLICY.replace("limit: 5", "limit: 7"), TOOLS),
        policies(POLICY.replace("policy: p", "policy: q"), TOOLS),
        policies(POLICY, "policy: more\nrules: [{id: a, effect: deny, tools: '*'}]", TOOLS),
    ]
    assert {each.revision for each in same} == {one.revision}
    assert len({each.revision for each in (one, *other)}) == len(other) + 1


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("limit: 5", "limit: 7", {"p/a"}),
        ("other: 6", "other: 7", {"p/b"}),
        ("args.n >", "args.m >", {"p/a"}),
        ("    when: variables.big", "    # why\n    when: variables.big", set()),
        ("rules:", "agents: x\nrules:", {"p/a", "p/b"}),
        ("rules:", "mode: shadow\nrules:", {"p/a", "p/b"}),
        ("rules:", "description: more words\nrules:", set()),
        ("when: variables.small", "when: '!variables.small'", {"p/b"}),
        ("    when: variables.big", "    reason: no\n    when: variables.big", {"p/a"}),
    ],
)
def test_a_rules_hash_covers_the_rule_and_what_it_reads(
    old: str, new: str, changed: set[str]
) -> None:
    before = hashes(policies(POLICY, TOOLS))
    after = hashes(policies(POLICY.replace(old, new, 1), TOOLS))
    assert {name for name in before if before[name] != after[name]} == changed


def test_constants_and_variables_can_be_imported() -> None:
    lender = (
        "policy: lender\nconstants: {n: 1}\nvariables: {big: args.n > constants.n}\nrules: []\n"
    )
    middle = "policy: middle\nimport: lender\nconstants: {m: 2}\nrules: []\n"
    user = (
        "policy: user\nimport: [middle]\nrules:\n"
        "  - {id: a, effect: deny, tools: files/write, when: variables.big && constants.m == 2}\n"
    )
    for texts in itertools.permutations((lender, middle, user, TOOLS)):
        assert policies(*texts).rule_count == 1


def test_tests_and_detections_are_passed_over_and_cover_nothing() -> None:
    other = "test: [p]\ncases: []\n---\ntest: q\n"
    detection = "detection: storm\nseverity: high\n"
    assert policies(POLICY, TOOLS, other, detection).revision == policies(POLICY, TOOLS).revision


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"policy: p\xff\nrules: []", "f0.yaml:1:10: error: not UTF-8"),
        (b"policy: p\nrules:\n- id: \0", "f0.yaml:3:7: error: NUL is not allowed"),
        (b"#" * (1024 * 1024 + 1), "f0.yaml:1:1: error: larger than 1048576 bytes"),
        (b"policy: " + b"[" * 100_000, "f0.yaml:1:40: error: nested deeper than 32"),
        (b"policy: p\nrules: [\n", "f0.yaml:3:1: error: did not find expected node content"),
    ],
)
def test_d3_what_is_no_file_of_ours_is_refused_with_its_place(data: bytes, said: str) -> None:
    loaded = load(data)
    assert loaded.policy_set is None
    assert shown(loaded.problems).startswith(said)


def test_d2_no_file_at_all_denies_everything() -> None:
    assert policies().rule_count == 0


def test_d3_a_missing_source_spoils_the_set_and_excuses_what_may_stand_in_it() -> None:
    unmet = "policy: q\nimport: gone\nrules: [{id: a, effect: deny, tools: files/nope}]\n"
    sources = [
        Source("tools.yaml", TOOLS.encode()),
        Source("q.yaml", unmet.encode()),
        Source("gone", b"", is_missing=True),
    ]

    def said(upstreams: Mapping[str, str]) -> list[str]:
        loaded = load_policies(
            sources, upstreams=upstreams, default="deny", read_file=lambda source, path: b""
        )
        assert loaded.policy_set is None
        return [problem.message for problem in loaded.problems]

    assert said({"files": "mcp", "github": "rest"}) == [], "its catalogue may be the missing one"
    (problem,) = said({"files": "mcp"})
    assert problem.startswith("no tool can meet this rule"), "every upstream's catalogue is here"


def test_one_broken_file_spoils_the_set() -> None:
    loaded = load(POLICY, TOOLS, "policy: broken\n")
    assert loaded.policy_set is None and len(errors_only(loaded.problems)) == 1


CATALOGUES = [
    (),
    ("catalogue: files\ntools: {}\n",),
    (TOOLS,),
    ("catalogue: files\ntools: {a: {args: {}}}\n", "catalogue: github\ntools: {get: GET /a}\n"),
    ("catalogue: github\ntools: {put: {route: PUT /a, args: {x: int}, risk: critical}}\n",),
]
PACK_NAMES = sorted(path.name for path in PACKS.iterdir() if list(path.glob("*.yaml")))


@pytest.mark.parametrize("catalogues", CATALOGUES)
@pytest.mark.parametrize("pack", PACK_NAMES)
def test_a_pack_loads_with_any_catalogue(pack: str, catalogues: tuple[str, ...]) -> None:
    files = read_pack(pack)
    loaded = load(*files.values(), *catalogues, names=tuple(files))
    assert loaded.policy_set is not None, loaded.problems
    assert loaded.policy_set.rule_count or loaded.detection_documents


def test_all_packs_load_together_and_stand_in_the_readme() -> None:
    files: dict[str, str] = {}
    for pack in PACK_NAMES:
        files |= read_pack(pack)
    policies(*files.values(), TOOLS, names=tuple(files))
    readme = (PACKS / "README.md").read_text()
    assert all(f"`{pack}`" in readme for pack in PACK_NAMES) and len(PACK_NAMES) >= 10


#: Tools for every rule of every pack.
WORLD = {
    "files": "read_file: {mutates: false}, list_allowed_directories: {}, write_file: {}",
    "github": "get_me: {mutates: false}, push_files: {}, merge_pull_request: {}, delete_file: {}",
    "shell": "run_command: {}",
    "payments": "refund: {args: {charge: string, amount: int, currency: string}}",
    "web": "fetch: {}",
    "desk": "drop: {labels: default-deny}, wipe: {risk: critical}, "
    "ask: {labels: [default-approval, approval-required]}, "
    "read: {labels: [personal-data, reads-private, reads-secret, returns-secrets]}, "
    "send: {labels: sends-external}",
}


def test_a_copied_pack_loads_from_a_folder() -> None:
    world = [f"catalogue: {name}\ntools: {{{tools}}}\n" for name, tools in WORLD.items()]
    for pack in PACK_NAMES:
        files = read_pack(pack)
        policies(*files.values(), *world, upstreams=dict.fromkeys(WORLD, "mcp"))


SNIPPETS = [
    *("", ":", "-", "  ", "\n", "*", "&a", "!x", "'", '"', "{", "}", "[", "]", "#", "|", "\0"),
    *(
        "\t",
        "é",
        "allow",
        "deny",
        "tools",
        "when",
        "args.",
        "variables.big",
        "9" * 30,
        "null",
        "<<",
    ),
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([POLICY, TOOLS, *read_pack("baseline").values()]),
    st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 12), st.sampled_from(SNIPPETS)),
        min_size=1,
        max_size=4,
    ),
)
def test_d3_a_damaged_file_loads_as_a_whole_or_not_at_all(
    text: str, damages: list[tuple[int, int, str]]
) -> None:
    for at, length, put in damages:
        place = at % (len(text) + 1)
        text = text[:place] + put + text[place + length :]
    loaded = load(
        text, TOOLS.replace("files", "github").replace("read: {", "read: {route: GET /a, ")
    )
    assert (loaded.policy_set is None) is bool(errors_only(loaded.problems))
    assert all(problem.position.source for problem in loaded.problems)


ASKS = "policy: p\nrules:\n  - {id: a, effect: require_approval, tools: '*', approval: {%s: %s}}\n"


@pytest.mark.parametrize("key", ["expires", "hold"])
def test_d3_an_approval_of_a_rule_has_the_bounds_that_those_of_sidecar_yaml_have(key: str) -> None:
    """What is beyond them would be cut where nobody hears of it."""
    bounds = Approvals.model_fields[f"{key}_s"].metadata
    low, high = (
        next(getattr(one, at) for one in bounds if hasattr(one, at)) for at in ("ge", "le")
    )
    for taken in (low, high):
        terms = policies(ASKS % (key, f"{taken:.0f}s")).rules[0].approval
        assert terms is not None and getattr(terms, f"{key}_us") == int(taken * 1e6)
    beyond = [f"{high + 1:.0f}s"] + ([f"{low * 1000 - 1:.0f}ms"] if low else [])
    for refused in beyond:
        (said,) = errors(ASKS % (key, refused))
        assert said.startswith("f0.yaml:3:") and " error: must be " in said
