"""A set with very many mistakes is refused for the first of them, and soon."""

from __future__ import annotations

from sidecar.policy.fields import Problems
from sidecar.policy.rules import ERRORS_MAX, read_policy
from sidecar.yaml_reader import read_documents


def test_of_a_file_with_very_many_broken_rules_the_first_are_told() -> None:
    """Whoever checks half a million of them holds up nobody for them."""
    rules = ",".join(["{id: a}", *["0"] * (ERRORS_MAX + 50)])
    (node,), problems = read_documents("p.yaml", f"policy: p\nrules: [{rules}]\n".encode())
    assert not problems
    found = Problems()
    read_policy(node, found, is_pack=False)
    assert ERRORS_MAX < found.error_count <= ERRORS_MAX + 2
    assert "are not looked at" in found.found[-1].message
    few = Problems()
    (node,), _ = read_documents("p.yaml", b"policy: p\nrules: [0, 1, 2]\n")
    read_policy(node, few, is_pack=False)
    assert few.error_count == 3, "positive control: all of them"
