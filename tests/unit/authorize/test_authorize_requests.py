"""Requests read strictly (tests/cases/authorize/requests.yaml), and the answers' small parts."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from authorize_setup import call

from sidecar.authorize.answers import Answered, dashed, decision_object, timestamp
from sidecar.authorize.call import call_of, declared_trust, entry_of
from sidecar.authorize.request import AuthorizeRequest, read_request
from sidecar.config.model import Upstream, UpstreamLimits
from sidecar.errors import Refused
from sidecar.model import TrustLevel
from sidecar.policy.catalogue import Catalogue, Entry, Tool
from sidecar.policy.routes import RouteTable

CASES = yaml.safe_load(
    (Path(__file__).parents[2] / "cases" / "authorize" / "requests.yaml").read_text()
)
ABSENT = "absent"


def changed(change: dict[str, Any]) -> bytes:
    """A whole request with something else in it."""
    request: dict[str, Any] = copy.deepcopy(call(trust="unknown"))
    for path, value in change.items():
        *parents, last = path.split(".")
        at = request
        for parent in parents:
            at = at[parent]
        if value == ABSENT:
            del at[last]
        else:
            at[last] = value
    return json.dumps(request).encode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case["change"]))
def test_requests_are_read_strictly(case: dict[str, Any]) -> None:
    body = changed(case["change"])
    if not case["refused"]:
        assert isinstance(read_request(body, 64, 50_000), AuthorizeRequest)
        return
    with pytest.raises(Refused) as refused:
        read_request(body, 64, 50_000)
    assert (refused.value.code, refused.value.reason) == ("invalid_request", case["refused"])


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'"x"', b"{", b'{"agent":{}}{"agent":{}}', b"\xff\xfe{}", b"NaN"],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_request(body, 64, 50_000)
    assert refused.value.code in ("invalid_json", "invalid_request")


@pytest.mark.parametrize("member", ["tool", "action", "resource"])
def test_lengths_are_bounded(member: str) -> None:
    most = 4096 if member == "resource" else 256
    assert read_request(changed({f"tool_call.{member}": "x" * most}), 64, 50_000)
    with pytest.raises(Refused):
        read_request(changed({f"tool_call.{member}": "x" * (most + 1)}), 64, 50_000)


def test_times_are_microseconds_utc() -> None:
    for text, wanted in (
        ("1970-01-01T00:00:01.000002Z", 1_000_002),
        ("1970-01-01T05:30:00+05:30", 0),
        ("2026-12-31T23:59:60Z", 1_798_761_599_000_000),
    ):
        assert read_request(changed({"timestamp": text}), 64, 50_000).timestamp_us == wanted


def test_numbers_and_names_two_readers_could_differ_on_are_refused() -> None:
    for parameters in ('{"a":1,"a":2}', "9007199254740993", '"\\u0000"', '"\\ud800"', "1e999"):
        raw = changed({}).replace(b'"parameters": {}', b'"parameters": ' + parameters.encode())
        assert parameters.encode() in raw
        with pytest.raises(Refused) as refused:
            read_request(raw, 64, 50_000)
        assert refused.value.code == "invalid_json", parameters


# -- the call --------------------------------------------------------------------------------------

UPSTREAMS = {
    name: Upstream(name=name, url="http://x", kind=kind, limits=UpstreamLimits(request_bytes=1))
    for name, kind in (("github", "rest"), ("files", "mcp"), ("shell", "authorize"))
}
TOOLS = {
    "github": {"merge": Entry(Tool("github", "merge"))},
    "files": {
        "read": Entry(Tool("files", "read", mutates=False)),
        "mcp:x": Entry(Tool("files", "mcp:x")),
    },
    "shell": {},
}  # fmt: skip
CATALOGUE = Catalogue(TOOLS, {"github": RouteTable[Entry]()}, {}, {"files"})


@pytest.mark.parametrize(
    ("tool", "action", "named"),
    [
        ("github", "merge", "github/merge"),
        ("files", "read", "files/read"),
        ("mcp:files", "read", "files/read"),
        ("GitHub", "merge", "unknown/unknown"),
        ("github", "Merge", "github/unknown"),
        ("github", "merge ", "github/unknown"),
        ("mcp:github", "merge", "unknown/unknown"),
        ("mcp:mcp:files", "read", "unknown/unknown"),
        ("files", "mcp:x", "files/unknown"),
        ("shell", "rm", "shell/unknown"),
        ("github/merge", "x", "unknown/unknown"),
        ("", "", "unknown/unknown"),
    ],
)
def test_w24_a_tool_is_the_one_of_exactly_this_name(tool: str, action: str, named: str) -> None:
    request = read_request(changed({}), 64, 50_000)._replace(tool=tool, action=action)
    assert entry_of(request, CATALOGUE, UPSTREAMS).tool.name == named
    made = call_of(request, b"", CATALOGUE, UPSTREAMS, call_id="c", source_ip="::1")
    assert made.tool.declared == ("unknown" not in named)
    assert made.called == (None if made.tool.declared else f"{tool}/{action}")
    loud = request._replace(mutates_state=True)
    assert call_of(loud, b"", CATALOGUE, UPSTREAMS, call_id="c", source_ip="").tool.mutates


@pytest.mark.parametrize("level", list(TrustLevel))
def test_w5_the_lower_trust_counts(level: TrustLevel) -> None:
    request = read_request(changed({}), 64, 50_000)
    for other in (*TrustLevel, None):
        said = request._replace(
            source_trust=level.label, root_trust_level=other.label if other is not None else None
        )
        assert declared_trust(said) == (level if other is None else min(level, other))
    assert declared_trust(request._replace(source_trust="no_such_level")) is TrustLevel.UNKNOWN


# -- answers ---------------------------------------------------------------------------------------

SAID = Answered(
    "0198f1e2000070008000000000000001", "allow", "policy_allow", "why", ("p/r",), "low", False,
    True, False, "trusted_internal_signed", "ab" * 32,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "score", "composite"),
    [
        ({}, 10, 10),
        ({"mutates": True}, 10, 25),
        ({"risk": "medium", "trust": "semi_trusted_customer"}, 40, 55),
        ({"risk": "high", "is_mcp": True}, 75, 85),
        ({"risk": "critical", "trust": "malicious_suspected"}, 95, 100),
        ({"trust": "unknown", "mutates": True}, 10, 45),
        ({"is_declared": False}, 100, 100),
        ({"code": "agent_frozen", "effect": "deny"}, 100, 100),
    ],
)
def test_scores(changes: dict[str, Any], score: int, composite: int) -> None:
    said = decision_object(SAID._replace(**changes))
    assert (said["risk_score"], said["composite_risk_score"]) == (score, composite)


def test_redact_is_said_only_of_what_goes_ahead() -> None:
    for effect, decision in (
        ("allow", "redact"), ("require_approval", "require_approval"), ("deny", "deny"),
    ):  # fmt: skip
        said = decision_object(SAID._replace(effect=effect, redacted=("a",)))
        assert said["decision"] == decision
        assert ("redacted_fields" in said) == (effect != "deny")


def test_ids_and_times() -> None:
    assert dashed(SAID.call_id) == "0198f1e2-0000-7000-8000-000000000001"
    assert timestamp(1_000_002) == "1970-01-01T00:00:01.000002Z"
