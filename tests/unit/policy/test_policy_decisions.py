"""Decisions as data: each file of tests/cases/policy/decisions is a policy set and its calls."""

from __future__ import annotations

import fnmatch
import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from policy_setup import CASES, MONDAY_10_UTC_US, UPSTREAMS, judge, policies, read_pack, run_after

from sidecar.model import Decision
from sidecar.policy.index import PolicySet

FILES = sorted((CASES / "decisions").glob("*.yaml"))
KEYS = {
    *("name", "call", "args", "agent", "http", "now", "expect"),
    *("by", "code", "reason", "would_be", "mode", "forward", "error", "matched"),
    *("after", "reads_run", "approvers", "charges", "failed", "masked", "add_labels"),
}


@functools.cache
def case_file(path: Path) -> tuple[dict[str, Any], PolicySet]:
    document = yaml.safe_load(path.read_text())
    files = dict(document["files"])
    for pack in document.get("packs", ()):
        files |= read_pack(pack)
    loaded = policies(
        *files.values(),
        names=tuple(files),
        upstreams=document.get("upstreams", UPSTREAMS),
        default=document.get("default", "deny"),
    )
    return document, loaded


CASE_LIST = [
    pytest.param(path, number, id=f"{path.stem}-{case['name'].replace(' ', '-')}")
    for path in FILES
    for number, case in enumerate(yaml.safe_load(path.read_text())["cases"])
]


@pytest.mark.parametrize(("path", "number"), CASE_LIST)
def test_d1_d2_d5_d7_decision(path: Path, number: int) -> None:
    document, policy_set = case_file(path)
    case = document["cases"][number]
    assert set(case) <= KEYS, set(case) - KEYS
    now_us, agent = _microseconds(case.get("now")), case.get("agent")
    decision = judge(
        policy_set,
        case["call"],
        case.get("args"),
        agent=agent,
        http=case.get("http"),
        now_us=now_us,
        run=run_after(policy_set, case.get("after", ()), agent=agent, now_us=now_us),
    )
    assert (decision.effect, decision.policy_revision) == (case["expect"], policy_set.revision)
    _compare(case, decision)


def _compare(case: dict[str, Any], decision: Decision) -> None:
    given = {
        "by": decision.rule_id,
        "code": decision.code,
        "would_be": decision.would_be,
        "mode": decision.mode,
        "forward": decision.forward,
        "matched": [one.rule_id for one in decision.matches if one.error is None],
        "failed": [one.rule_id for one in decision.matches if one.error is not None],
        "masked": _masked(decision),
        "add_labels": list(decision.add_labels),
        "reads_run": decision.reads_run,
        "approvers": {one.rule_id: list(one.approvers) for one in decision.approvals},
        "charges": [[one.limit, one.key, one.amount, one.max] for one in decision.charges],
    }
    for key, value in given.items():
        if key in case:
            assert value == case[key], key
    if "reason" in case:
        assert fnmatch.fnmatchcase(decision.reason, case["reason"]), decision.reason
    if "error" in case:
        texts = [one.error for one in decision.matches if one.error is not None]
        assert any(fnmatch.fnmatchcase(text, case["error"]) for text in texts), texts
        assert not any(text in decision.reason for text in texts)
    if decision.mode != "observe":
        assert decision.forward is (case["expect"] == "allow")


def _masked(decision: Decision) -> list[str]:
    """What is masked of the request."""
    if decision.obligations is None:
        return []
    request = decision.obligations.request
    return sorted([*request.detectors, *(".".join(path) for path in request.paths)])


def _microseconds(now: datetime | None) -> int:
    return MONDAY_10_UTC_US if now is None else int(now.astimezone(UTC).timestamp() * 1_000_000)
