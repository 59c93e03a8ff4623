"""Nothing of a call stays behind in the CEL library: whoever makes calls chooses how many there are
and how long their texts."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from cel_expr_python import cel
from policy_setup import judge, policies, run_after

from sidecar.policy import admission
from sidecar.policy.cel_references import Kept, kept_by_library, kept_by_nobody

TOOLS = """catalogue: files
tools:
  read: {mutates: false, args: {path: string, url: string, ip: string, names: "[string]"}}
"""
RULE = "policy: p\nrules:\n  - id: asks\n    effect: allow\n    tools: files/read\n    when: |\n"
ARGS: dict[str, Any] = {
    "path": "/srv/work/notes",
    "url": "https://docs.acme.io/page",
    "ip": "192.0.2.7",
    "names": [f"name {number}, in full" for number in range(60)],
}
#: What our functions take and give, what a meter is told, and what is counted.
CONDITIONS = {
    "two texts": 'under(args.path, "/srv/work") && glob(args.path, "/srv/*")',
    "a text is given": 'inDomain(host(args.url), "acme.io")',
    "given to the next": 'cidr("192.0.2.0/24").containsIP(args.ip)',
    "an error": "host(args.path) == args.url",
    "the run": 'run.count("files/*", duration("1h")) > 100000',
    "on a meter": '[args.names.join(", ")].exists(text, text.upperAscii().contains(args.path))',
}
_TIMES = 300


@pytest.mark.parametrize("when", CONDITIONS.values(), ids=CONDITIONS)
def test_what_a_condition_looked_at_does_not_stay(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission.Metered, "bound_ns", lambda *_: float("inf"))
    policy_set = policies(TOOLS, RULE + f"      {when}\n")
    run = run_after(policy_set, ["files/read"] * 3)

    def grown() -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(_TIMES):
            judge(policy_set, "files/read", ARGS, run=run)
        gc.collect()
        return sys.getallocatedblocks() - before

    grown()
    # What another thread of the run of tests allocates meanwhile is not there each time.
    assert min(grown() for _ in range(3)) < _TIMES / 4, "less than one of each look"


def test_what_the_library_keeps_is_let_go_of_once() -> None:
    """A reference too few would be a crash, some time later."""
    texts = [f"a text of its own, {number}" for number in range(5)]
    seen: list[str] = []

    def give(text: str) -> str:
        seen.append(text)
        return texts[len(seen) - 1]

    before = [sys.getrefcount(one) for one in texts]
    text = cel.Type.STRING
    given = cel.Overload("give_it", text, [text], False, kept_by_nobody(give, 1))
    environment = cel.NewEnv(
        variables={"asked": text}, functions=[cel.FunctionDecl("give", [given])]
    )
    expression = environment.compile('give(asked) != ""')
    for number in range(5):
        asked = {"asked": f"looked at, {number}"}
        assert expression.eval(environment.Activation(asked)).value() is True
    after = [sys.getrefcount(one) for one in texts]
    assert after[:4] == before[:4] and after[4] - before[4] <= 2, "of the last, until the next call"
    held = [sys.getrefcount(one) for one in seen]
    assert held[:4] == [sys.getrefcount(one) for one in texts][:4], "by the list, as those are"


def test_the_library_at_hand_keeps_what_it_is_said_to() -> None:
    """One that does not, as its next version: then the module that is tested here can go."""
    assert kept_by_library() == Kept(arguments=True, results=True)
