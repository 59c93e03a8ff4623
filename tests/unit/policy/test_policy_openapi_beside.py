"""An OpenAPI document among the policies is the document of its catalogue, and no policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from policy_setup import judge, load, shown

from sidecar.model import Effect
from sidecar.policy.case_set import read_context
from sidecar.policy.fields import Problems
from sidecar.policy.load import LoadedPolicies, load_policies
from sidecar.policy_reading import take_reading
from sidecar.problems import errors_only

CATALOGUE = "catalogue: github\nopenapi: ./github-openapi.yaml\n"
POLICY = "policy: p\nrules: [{id: a, effect: allow, tools: github/getPet}]\n"
DENY = "policy: never\nrules: [{id: all, effect: deny, tools: '*'}]\n"
#: With an anchor, which no file of ours may have.
DOCUMENT = """openapi: 3.1.0
info: {title: Pets, version: "1"}
paths:
  /pets/{petId}:
    get:
      operationId: getPet
      parameters: &shared [{name: petId, in: path, required: true, schema: {type: integer}}]
"""
UPSTREAMS = {"github": "rest"}


def loaded(folder: Path, *entries: str) -> LoadedPolicies:
    reading = take_reading(entries or [folder.name], folder.parent)
    assert reading.problems == []
    return load_policies(
        reading.sources, upstreams=UPSTREAMS, default="deny", read_file=reading.read_file
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    (folder / "github").mkdir(parents=True)
    (folder / "p.yaml").write_text(POLICY)
    (folder / "github" / "tools.yaml").write_text(CATALOGUE)
    (folder / "github" / "github-openapi.yaml").write_text(DOCUMENT)
    return folder


@pytest.mark.parametrize(
    "entries", [["policies"], ["."], ["./policies/github", "policies/p.yaml"], ["{}"]]
)
def test_the_pages_own_example_loads(folder: Path, entries: list[str]) -> None:
    found = loaded(folder, *(one.format(folder) for one in entries))
    assert found.policy_set is not None, shown(found.problems)
    assert judge(found.policy_set, "github/getPet", {"petId": 7}).effect is Effect.ALLOW


@pytest.mark.parametrize("more", ["", "#" * 1_100_000, "x-more: !tag {}\n"])
def test_the_rules_of_our_files_do_not_bind_a_document(folder: Path, more: str) -> None:
    path = folder / "github" / "github-openapi.yaml"
    path.write_text(DOCUMENT + "x-note: 010\n" + more)
    found = loaded(folder)
    if "!tag" in more:  # but those of documents do
        assert "github-openapi.yaml: " in shown(found.problems) and found.policy_set is None
    else:
        assert found.policy_set is not None, shown(found.problems)


def test_it_is_part_of_the_revision(folder: Path) -> None:
    before = loaded(folder).policy_set
    path = folder / "github" / "github-openapi.yaml"
    path.write_text(DOCUMENT.replace("petId", "pet"))
    after = loaded(folder).policy_set
    assert before is not None and after is not None and before.revision != after.revision


def test_a_document_nobody_names_is_still_told_of(folder: Path) -> None:
    (folder / "other.yaml").write_text(DOCUMENT.replace("&shared ", ""))
    found = loaded(folder)
    (problem,) = errors_only(found.problems)
    assert str(problem).startswith("policies/other.yaml:1:1: error: the first key of a file must")
    assert problem.hint == "a catalogue names its document: `openapi: ./FILE`"


@pytest.mark.parametrize("name", ["never.yaml", "../github/never.yaml"])
def test_no_catalogue_takes_a_policy_out_of_force(folder: Path, name: str) -> None:
    (folder / "github" / "tools.yaml").write_text(
        f"catalogue: github\nopenapi: {name}\ntools: {{getPet: GET /pets}}\n"
    )
    (folder / "github" / "never.yaml").write_text(DENY + "openapi: 3.1.0\npaths: {}\n")
    problems = shown(loaded(folder).problems)
    assert 'policies/github/never.yaml:3:1: error: "openapi" is not a key of a policy' in problems
    (folder / "github" / "never.yaml").write_text(DENY)
    assert loaded(folder).policy_set is None


def test_tests_of_the_folder_read_it_so_too(folder: Path) -> None:
    (folder / "p_test.yaml").write_text(
        "test: p\ncases: [{name: a, call: github/getPet, args: {petId: 1}, expect: allow}]\n"
    )
    reading, problems = take_reading(["policies"], folder.parent), Problems()
    context = read_context(reading.sources, reading.read_file, problems)
    assert [one.position.source for one in context.tests] == ["policies/p_test.yaml"]
    assert problems.found == []


def test_of_texts_beside_each_other_too() -> None:
    found = load(
        CATALOGUE, POLICY, DOCUMENT,
        names=("tools.yaml", "p.yaml", "github-openapi.yaml"),
        beside={"./github-openapi.yaml": DOCUMENT.encode()},
    )  # fmt: skip
    assert found.policy_set is not None, shown(found.problems)
