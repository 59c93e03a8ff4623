"""An explanation laid out: lines for people, plain data for programs.

Knows: the form. Must not know: how anything is judged, where a call came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sidecar.model import Effect, Tool
from sidecar.policy.explain import Account, Explanation
from sidecar.policy.explain_terms import terms_data, terms_lines
from sidecar.policy.runs import RunState
from sidecar.policy.verdicts import Verdict
from sidecar.policy.windows import moment
from sidecar.problems import Position

_NO_PLACES: Final[Mapping[str, Position]] = {}
_NO_MATCH_MAX: Final = 20
_REVISION_LENGTH: Final = 8
_STRICTEST_FIRST: Final = (Effect.DENY, Effect.REQUIRE_APPROVAL, Effect.ALLOW)
_INDENT: Final = "      "
_SHOWN: Final = {Verdict.YES: "yes", Verdict.NO: "no", Verdict.ERROR: "error", Verdict.UNKNOWN: "?"}


def explanation_lines(
    found: Explanation, places: Mapping[str, Position] = _NO_PLACES
) -> Iterator[str]:
    """The account for people; `places` says where tools and rules stand, by name."""
    yield from decision_lines(found)
    tool = found.call.tool
    place = places.get(tool.name)
    yield f"tool  {tool_text(tool)}{f'    {_short(place)}' if place is not None else ''}"
    yield f"run   {_run_text(found)}"
    yield from terms_lines(found.decision)
    rows = sorted((one for one in found.accounts if _has_row(one)), key=_strictest_first)
    widths = [
        max((len(text(one)) for one in rows), default=0) for text in (_effect, _name, _verdict)
    ]
    for one in rows:
        cells = (_effect(one), _name(one), _verdict(one))
        padded = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield f"{_INDENT}{padded}  {_why(one)}".rstrip()
    yield f"{_INDENT}{_rest(found)}"


def decision_lines(found: Explanation) -> Iterator[str]:
    """What was decided, by which rule, in which words."""
    decision = found.decision
    named = decision.rule_id or decision.code
    if not found.judged.ruling.is_certain:
        unknown = [rule.rule_id for rule in found.judged.ruling.unknown if not rule.is_shadow]
        yield (
            f"?  it cannot be told: {', '.join(unknown)} read what was not recorded; "
            f"the other rules say {decision.effect} ({named})"
        )
        return
    aside = [] if decision.code.startswith("policy_") else [decision.code]
    if decision.mode.value == "observe":
        aside.append("observed only: the call goes ahead")
    if decision.would_be is not None and decision.would_be is not decision.effect:
        aside.append(f"with the shadow rules: {decision.would_be}")
    rule = f"{decision.rule_id}  " if decision.rule_id else ""
    yield f'{decision.effect}  {rule}"{decision.reason}"' + "".join(f"  [{a}]" for a in aside)


def tool_text(tool: Tool) -> str:
    """`github/merge_pull_request: mutates, risk high, labels writes-code, returns unknown`."""
    facts = ["mutates" if tool.mutates else "changes nothing", f"risk {tool.risk.label}"]
    if tool.labels:
        facts.append(f"labels {', '.join(tool.labels)}")
    facts.append(f"returns {tool.returns.label}")
    if not tool.declared:
        facts.append("declared by no catalogue")
    return f"{tool.name}: {', '.join(facts)}"


def _run_text(found: Explanation) -> str:
    caller, run = found.principal, found.run
    facts = [f"trust {run.trust.label}{_since(run)}"]
    facts.append(f"labels {', '.join(sorted(run.labels)) or 'none'}")
    facts.append(f"{run.calls or 'no'} call{'' if run.calls == 1 else 's'}")
    agent = [f"risk {caller.risk.label}"]
    agent += [f"team {caller.team}"] if caller.team else []
    agent += [f"environment {caller.environment}"] if caller.environment else []
    return f"{caller.tenant}/{caller.agent}: {'; '.join(facts)}; agent {', '.join(agent)}"


def _since(run: RunState) -> str:
    if not run.lowered_by:
        return ""
    at = f" at {moment(run.lowered_at_us):%H:%M:%S}" if run.lowered_at_us else ""
    return f" since {run.lowered_by}{at}"


def _has_row(one: Account) -> bool:
    """What matched, failed or cannot be told; and of the rest what could have allowed the call."""
    if one.verdict is not Verdict.NO:
        return True
    return one.rule.effect == "allow" and one.fits_tool


def _strictest_first(one: Account) -> tuple[int, tuple[str, str]]:
    """In the order in which they decide; what decides nothing comes last."""
    effect = one.rule.effect
    rank = _STRICTEST_FIRST.index(effect) if effect is not None else len(_STRICTEST_FIRST)
    return rank, one.rule.order


def _effect(one: Account) -> str:
    return str(one.rule.effect or "adds")


def _name(one: Account) -> str:
    return one.rule.rule_id


def _verdict(one: Account) -> str:
    return _SHOWN[one.verdict]


def _why(one: Account) -> str:
    return "; ".join(part for part in ("shadow" if one.rule.is_shadow else "", one.why) if part)


def _rest(found: Explanation) -> str:
    revision = f"Revision {found.decision.policy_revision[:_REVISION_LENGTH]}"
    if found.call.is_protocol:
        return f"no rule is looked at. {revision}"
    unlisted = [one for one in found.accounts if not _has_row(one)]
    parts = []
    if unlisted:
        shown = [f"{_name(one)} ({_why(one)})" for one in unlisted[:_NO_MATCH_MAX]]
        if len(unlisted) > _NO_MATCH_MAX:
            shown.append(f"{len(unlisted) - _NO_MATCH_MAX} more")
        parts.append(f"no match: {', '.join(shown)}")
    count = found.other_rules
    if count:
        plural = "rule does" if count == 1 else "rules do"
        parts.append(f"{count} other {plural} not name this tool")
    elif not found.accounts:
        parts.append("there are no rules")
    return f"{'; '.join(parts)}. {revision}" if parts else revision


def _short(place: Position) -> str:
    return f"{place.source}:{place.line}" if place.line else place.source


def explanation_data(
    found: Explanation, places: Mapping[str, Position] = _NO_PLACES
) -> dict[str, Any]:
    """The account as JSON values; every rule that names the tool is there, in order."""
    decision, tool, caller, run = found.decision, found.call.tool, found.principal, found.run
    return {
        "decision": {
            "effect": decision.effect.value,
            "is_certain": found.judged.ruling.is_certain,
            "code": decision.code,
            "reason": decision.reason,
            "rule": decision.rule_id,
            "mode": decision.mode.value,
            "would_be": decision.would_be.value if decision.would_be is not None else None,
            "revision": decision.policy_revision,
            **terms_data(decision),
        },
        "tool": {
            "name": tool.name,
            "declared": tool.declared,
            "mutates": tool.mutates,
            "risk": tool.risk.label,
            "labels": list(tool.labels),
            "returns": tool.returns.label,
            "place": str(places[tool.name]) if tool.name in places else None,
        },
        "agent": {
            "tenant": caller.tenant,
            "name": caller.agent,
            "team": caller.team,
            "environment": caller.environment,
            "risk": caller.risk.label,
        },
        "run": {
            "trust": run.trust.label,
            "labels": sorted(run.labels),
            "calls": run.calls,
            "lowered_by": run.lowered_by or None,
            "lowered_in": run.lowered_in or None,
            "lowered_at": moment(run.lowered_at_us).isoformat() if run.lowered_at_us else None,
        },
        "now": moment(found.now_us).isoformat(),
        "rules": [_account_data(one, places) for one in found.accounts],
        "other_rules": found.other_rules,
        "hidden": sorted(
            found.hidden.facts | {".".join(("args", *path)) for path in found.hidden.arguments}
        ),
    }


def _account_data(one: Account, places: Mapping[str, Position]) -> dict[str, Any]:
    return {
        "rule": one.rule.rule_id,
        "effect": one.rule.effect.value if one.rule.effect is not None else None,
        "mode": one.rule.mode.value,
        "verdict": one.verdict.value,
        "checks": [{"key": c.key, "holds": c.holds, "text": c.text} for c in one.checks],
        "place": str(places[one.rule.rule_id]) if one.rule.rule_id in places else None,
    }
