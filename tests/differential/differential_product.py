"""The product's side: a set loaded from YAML, a call judged, the decision as plain data.

Knows: the product's entry points and its nouns. Must not know: the twin's semantics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twin_world import Call, World
from written_yaml import files

from sidecar.model import Decision, HttpFacts, Principal, RiskLevel, ToolCall, TrustLevel
from sidecar.policy import decide as pdp
from sidecar.policy.abilities import WHOLE
from sidecar.policy.index import PolicySet
from sidecar.policy.load import Source, load_policies
from sidecar.policy.runs import RunState
from sidecar.problems import Problem, errors_only


@dataclass(frozen=True)
class Refused(Exception):
    """The loader found errors."""

    errors: tuple[Problem, ...]


def loaded(world: World) -> PolicySet:
    """The set as the product reads it; raises Refused."""
    found = load_policies(
        [Source(name, text.encode()) for name, text in files(world).items()],
        upstreams=world.upstreams,
        default=world.default,
        read_file=_nothing_beside,
        has=WHOLE,
    )
    errors = tuple(errors_only(found.problems))
    if errors or found.policy_set is None:
        raise Refused(errors)
    return found.policy_set


def _nothing_beside(source: str, path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


def judged(policy_set: PolicySet, call: Call) -> Decision:
    """The product's decision."""
    return pdp.decide(
        policy_set, _principal(call), _tool_call(policy_set, call), call.now_us, _run(call)
    )


def _principal(call: Call) -> Principal:
    of = call.principal
    return Principal(
        of["tenant"],
        of["agent"],
        team=of["team"],
        environment=of["environment"],
        risk=RiskLevel[of["risk"].upper()],
        trust=TrustLevel[of["trust"].upper()],
        claims=of["claims"],
    )


def _tool_call(policy_set: PolicySet, call: Call) -> ToolCall:
    upstream, _, operation = call.tool.partition("/")
    catalogue = policy_set.catalogue
    if operation.startswith("mcp:"):
        entry = catalogue.mcp_method(upstream, operation.removeprefix("mcp:"))
    else:
        entry = catalogue.entry(upstream, operation) or catalogue.unknown(upstream)
    return ToolCall(
        call_id="0" * 32,
        tool=entry.tool,
        action=call.http["method"],
        args=call.args,
        http=HttpFacts(**call.http),
        target="",
        headers=(),
        body=b"",
        dialect="mcp",
    )


def _run(call: Call) -> RunState | None:
    run = call.run
    if run is None:
        return None
    return RunState(
        TrustLevel[run["trust"].upper()],
        frozenset(run["labels"]),
        run["calls"],
        run["started_us"],
        run_id=run["id"],
        recent=run["recent"],
    )


def obligations(decision: Decision) -> dict[str, Any]:
    """United obligations in the words of a policy file; what is left open is not in it."""
    one = decision.obligations
    if one is None:
        return {}
    both: dict[str, Any] = {}
    for side, redaction in (("request", one.request), ("response", one.response)):
        named = {".".join(path) for path in redaction.paths} | set(redaction.detectors)
        if named:
            both[f"redact.{side}"] = named
    headers = dict(one.set_headers) | dict.fromkeys(one.remove_headers)
    if headers:
        both["headers"] = headers
    if one.max_response_bytes is not None:
        both["max_response"] = one.max_response_bytes
    if one.needs_idempotency_key:
        both["idempotency_key"] = True
    if decision.add_labels:
        both["add_labels"] = set(decision.add_labels)
    return both
