"""What the policy tests share: loading texts, making calls, reading cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sidecar.model import Decision, HttpFacts, Principal, RiskLevel, ToolCall, TrustLevel
from sidecar.policy.abilities import WHOLE, Abilities
from sidecar.policy.decide import decide
from sidecar.policy.index import PolicySet
from sidecar.policy.load import LoadedPolicies, Source, load_policies
from sidecar.policy.runs import RunState, beginning, gathered
from sidecar.problems import Problem, errors_only

CASES = Path(__file__).parents[2] / "cases" / "policy"
PACKS = Path(__file__).parents[3] / "policies"
MONDAY_10_UTC_US = 1_767_607_200_000_000
UPSTREAMS = {"github": "rest", "files": "mcp"}
#: A sidecar that keeps nothing from call to call.
NOTHING = Abilities(keeps_runs=False, store_keeps_limits=False)


def load(
    *texts: str | bytes,
    upstreams: Mapping[str, str] = UPSTREAMS,
    default: Any = "deny",
    names: tuple[str, ...] = (),
    beside: Mapping[str, bytes] | None = None,
    has: Abilities = WHOLE,
) -> LoadedPolicies:
    """Loads texts as files f0.yaml, f1.yaml … (or as `names`)."""

    def read_file(source: str, path: str) -> bytes:
        try:
            return (beside or {})[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    sources = [
        Source(
            names[number] if number < len(names) else f"f{number}.yaml",
            text if isinstance(text, bytes) else text.encode(),
        )
        for number, text in enumerate(texts)
    ]
    return load_policies(
        sources, upstreams=upstreams, default=default, read_file=read_file, has=has
    )


def policies(*texts: str, **options: Any) -> PolicySet:
    """The set of texts that must load."""
    loaded = load(*texts, **options)
    assert loaded.policy_set is not None, shown(loaded.problems)
    return loaded.policy_set


def shown(problems: list[Problem]) -> str:
    return "\n".join(str(problem) for problem in problems)


def errors(*texts: str, **options: Any) -> list[str]:
    """The errors of texts, one line each."""
    return [
        str(problem).partition("\n")[0] for problem in errors_only(load(*texts, **options).problems)
    ]


def make_call(
    policy_set: PolicySet,
    name: str,
    args: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
) -> ToolCall:
    """A call to a tool by its name; `x/mcp:m` is a method, undeclared names are unknown."""
    upstream, _, operation = name.partition("/")
    catalogue = policy_set.catalogue
    if operation.startswith("mcp:"):
        entry = catalogue.mcp_method(upstream, operation.removeprefix("mcp:"))
    else:
        entry = catalogue.entry(upstream, operation) or catalogue.unknown(upstream)
    facts = {"method": "POST", "path": "/", "query": "", "source_ip": "127.0.0.1", "headers": {}}
    return ToolCall(
        call_id="0" * 32,
        tool=entry.tool,
        action="tools/call",
        args=dict(args or {}),
        http=HttpFacts(**{**facts, **(http or {})}),
        target="",
        headers=(),
        body=b"",
        dialect="mcp",
    )


def make_principal(**given: Any) -> Principal:
    """A caller; `risk` and `trust` by name."""
    values = {"tenant": "acme", "agent": "coder", **given}
    if "risk" in values:
        values["risk"] = RiskLevel[values["risk"].upper()]
    if "trust" in values:
        values["trust"] = TrustLevel[values["trust"].upper()]
    return Principal(**values)


def judge(
    policy_set: PolicySet,
    name: str,
    args: Mapping[str, Any] | None = None,
    *,
    agent: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
    now_us: int = MONDAY_10_UTC_US,
    run: RunState | None = None,
) -> Decision:
    """The decision on one call."""
    call = make_call(policy_set, name, args, http)
    return decide(policy_set, make_principal(**(agent or {})), call, now_us, run)


def run_after(
    policy_set: PolicySet,
    names: Sequence[str],
    *,
    agent: Mapping[str, Any] | None = None,
    now_us: int = MONDAY_10_UTC_US,
) -> RunState:
    """The run once these calls went ahead, one a second, the last a second before `now_us`."""
    run = beginning(make_principal(**(agent or {})).trust)
    for number, name in enumerate(names):
        at_us = now_us - (len(names) - number) * 1_000_000
        call = make_call(policy_set, name)
        decision = judge(policy_set, name, agent=agent, now_us=at_us, run=run)
        run = gathered(run, call, decision, at_us, keeps_calls=policy_set.counts_by_tool)
    return run


def read_pack(name: str) -> dict[str, str]:
    """The files of a shipped pack, named as they are when they are loaded."""
    return {
        f"pack:{name}/{path.name}": path.read_text()
        for path in sorted((PACKS / name).glob("*.yaml"))
    }
