"""The language's own ten policies: each loads, or what is not carried out is refused by name."""

from __future__ import annotations

import pytest
from policy_setup import CASES, NOTHING, errors, load

UPSTREAMS = dict.fromkeys(
    ("github", "payments", "files", "db", "deploy", "web", "crm", "mail"), "mcp"
)
CATALOGUES = [
    "catalogue: github\ntools: {get_repo: {mutates: false}, create_branch: {}, push_files: {}, "
    "create_pull_request: {}, merge_pull_request: {}}",
    "catalogue: payments\ntools: {refund: {args: {charge: string, amount: int, currency: string}}}",
    "catalogue: files\ntools: {read_file: {}, list_dir: {}, write_file: {}, edit_file: {}, "
    "move_file: {}}",
    "catalogue: db\ntools: {query: {}}",
    "catalogue: deploy\ntools: {start: {}, rollback: {}}",
    "catalogue: web\ntools: {fetch: {}}",
    "catalogue: crm\ntools: {get_customer: {mutates: false}}",
    "catalogue: mail\ntools: {send: {labels: sends-external}}",
]
AS_WRITTEN = {path.stem: path.read_text() for path in (CASES / "language").glob("*.yaml")}
#: What a sidecar that keeps neither runs nor sums refuses.
REFUSED: dict[str, set[str]] = {
    "trust": {"`run`", "reason: {run.trust}"},
    "lethal-trifecta": {"`run`", "reason: {run.trust}"},
    "payments": {"`sum` in limits"},
}


@pytest.mark.parametrize("name", sorted(AS_WRITTEN))
def test_a_policy_of_the_language_is_carried_out_or_refused_by_name(name: str) -> None:
    has = NOTHING
    found = errors(AS_WRITTEN[name], *CATALOGUES, upstreams=UPSTREAMS, has=has)
    ending = " is not carried out by this version"
    said = {line.partition("error: ")[2].removesuffix(ending) for line in found}
    assert said == REFUSED.get(name, set())
    assert all(line.endswith(ending) for line in found)


def test_the_smallest_configuration_loads_without_a_catalogue() -> None:
    loaded = load(AS_WRITTEN["read-only"], names=("pack:read-only/policy.yaml",), default="observe")
    assert loaded.policy_set is not None
    assert [problem.is_warning for problem in loaded.problems] == [True]


def test_there_are_ten() -> None:
    assert len(AS_WRITTEN) == 10
