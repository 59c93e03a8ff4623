"""REST requests: operations and arguments, and what is refused as ambiguous."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from proxy_dialect_setup import CALL_ID, Setup, head

from sidecar.errors import Refused
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.dialects.rest_arguments import _DIGEST_KEYS, _overrides_method

CASES = json.loads((Path(__file__).parents[2] / "cases/rest/requests.json").read_bytes())
DIALECT = DIALECTS["rest"]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("rest"))


def body_of(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "json" in case:
        return json.dumps(case["json"]).encode()
    return str(case.get("text", "")).encode()


def read(setup: Setup, case: dict[str, Any]) -> Any:
    headers = {"Content-Type": case["content_type"]} if "content_type" in case else {}
    return setup.call(DIALECT, head(case["method"], case["target"], headers), body_of(case))


def named(kind: str) -> Any:
    cases = [case for case in CASES["requests"] if kind in case]
    return pytest.mark.parametrize(
        "case", cases, ids=[f"{case['case'].lower()}-{case['name']}" for case in cases]
    )


@named("call")
def test_rest_request_is_read_as_this_call(setup: Setup, case: dict[str, Any]) -> None:
    call = read(setup, case)
    assert call.tool.operation == case["call"]["operation"]
    assert dict(call.args) == case["call"]["args"]
    for name, value in case["call"]["args"].items():
        assert type(call.args[name]) is type(value)
    assert (call.call_id, call.dialect, call.action) == (CALL_ID, "rest", case["method"])
    assert call.target == case["target"].removeprefix("/shop").removesuffix("?")
    assert call.body == body_of(case)
    assert (call.reply_id, call.expects_reply, call.is_protocol) == (None, True, False)


@named("refused")
def test_rest_request_is_refused_with_this_code(setup: Setup, case: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read(setup, case)
    refused = caught.value
    assert refused.code == case["refused"]
    status, headers, body = DIALECT.refusal(refused, CALL_ID, None)
    assert status == refused.status and 400 <= status < 500
    assert dict(headers)["Content-Type"] == "application/problem+json"
    assert dict(headers)["Aegis-Call-Id"] == CALL_ID
    problem = json.loads(body)
    assert (problem["code"], problem["status"], problem["call_id"]) == (
        refused.code,
        status,
        CALL_ID,
    )
    assert problem["next_step"] and problem["title"] and problem["detail"]


def test_the_corpus_covers_its_threats_with_both_kinds() -> None:
    for kind in ("call", "refused"):
        threats = {case["case"] for case in CASES["requests"] if kind in case}
        assert {"B9", "B10", "B18", "C4", "C11"} <= threats


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def means_nothing_else(name: str) -> bool:
    """Names that some framework takes for the method, and ours of a body, are refused."""
    return name != "" and name not in _DIGEST_KEYS and not _overrides_method(name)


@given(st.dictionaries(TEXT.filter(means_nothing_else), TEXT, max_size=6))
@example({"size": "1", "method": "2"})
def test_b10_what_a_client_encodes_is_what_rules_read(setup: Setup, pairs: dict[str, str]) -> None:
    assume(not _differ_in_case(pairs))
    query = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs.items()
    )
    call = setup.call(DIALECT, head("GET", f"/shop/orders?{query}"))
    assert dict(call.args) == pairs
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = setup.call(DIALECT, head("POST", "/shop/orders", form), query.encode())
    assert dict(posted.args) == pairs


@given(
    st.dictionaries(
        TEXT,
        st.recursive(
            st.one_of(TEXT, st.integers(-9, 9), st.none(), st.booleans()),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_c11_json_members_are_read_as_they_are(setup: Setup, members: dict[str, Any]) -> None:
    import unicodedata

    assume(all(name == "" or means_nothing_else(name) for name in members))
    body = json.dumps(members).encode()
    request = head("POST", "/shop/orders", {"Content-Type": "application/json"})
    try:
        call = setup.call(DIALECT, request, body)
    except Refused as refused:
        if refused.code == "ambiguous_argument":
            assert _differ_in_case(members)
            return
        assert refused.code == "invalid_json"
        assert any(not unicodedata.is_normalized("NFC", name) for name in _names(members))
    else:
        assert call.args == members
        assert not _differ_in_case(members)


def _differ_in_case(names: Iterable[str]) -> bool:
    folded = [name.casefold() for name in names]
    return len(set(folded)) != len(folded)


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(name for child in value.values() for name in _names(child))]
    if isinstance(value, list):
        return [name for child in value for name in _names(child)]
    return []


@pytest.mark.parametrize(
    ("method", "name", "value", "is_refused"),
    [
        ("POST", "X-HTTP-Method-Override", "GET", True),  # a long query of Google's clients
        ("POST", "X-HTTP-Method", "MERGE", True),  # OData
        ("POST", "x-method-override", "delete", True),
        ("GET", "X-HTTP-METHOD-OVERRIDE", "DELETE", True),
        ("POST", "X-HTTP-Method", "", True),
        ("POST", "X-HTTP-Method-Override", "post", False),
        ("POST", "X-HTTP-Methods", "DELETE", False),
    ],
)
def test_b12_what_says_that_it_is_of_another_method_is_not_sent_as_what_it_is_not(
    setup: Setup, method: str, name: str, value: str, is_refused: bool
) -> None:
    request = head(method, "/shop/orders", {name: value})
    if is_refused:
        with pytest.raises(Refused, match="another method") as caught:
            setup.call(DIALECT, request, b"")
        assert caught.value.code == "invalid_argument"
    else:
        call = setup.call(DIALECT, request, b"")
        assert (name, value) in call.headers or value == "post"
        assert value != "post" or not call.headers
