"""Recorded arguments, held to what the catalogue declares of their tool now."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.errors import Refused
from sidecar.model import HttpFacts, ToolCall
from sidecar.policy.bound_again import bound_again
from sidecar.policy.catalogue import Entry
from sidecar.policy.hidden import NOTHING_HIDDEN, Hidden
from sidecar.policy.load import Source, load_policies
from sidecar.policy.replay import under_set

TOOLS = """catalogue: shop
tools:
  get: {route: "GET /orders/{number}", args: {number: int, wide: bool?, tags: "[string]?"}}
  refund:
    route: "POST /orders/{number}/refund"
    args: {number: int, amount: number, note: string?}
  named: {route: "PUT /names/{name}", args: {name: string, size: int?}}
  free: POST /free
  free-one: POST /free/{id}
  any-name: GET /names/{name}
  all-names: GET /names/all
  name-of: GET /names/of/{who}
  any-file: GET /files/{path...}
  files-of: GET /files/of/{who}
"""
ASKED = "catalogue: ask\ntools:\n  look: {mutates: false, args: {a: int}}\n"
MCP = "catalogue: files\ntools:\n  read: {args: {path: string, lines: int?}}\n"


def loaded() -> Any:
    found = load_policies(
        [
            Source("shop.yaml", TOOLS.encode()),
            Source("files.yaml", MCP.encode()),
            Source("ask.yaml", ASKED.encode()),
            Source("p.yaml", b"policy: p\nrules:\n  - {id: a, effect: allow, tools: '*'}\n"),
        ],
        upstreams={"shop": "rest", "files": "mcp", "ask": "authorize"},
        default="deny",
        read_file=lambda source, path: b"",
    )
    assert found.policy_set is not None, found.problems
    return found.policy_set


SET = loaded()


def entry(name: str) -> Entry:
    upstream, _, operation = name.partition("/")
    found: Entry | None = SET.catalogue.entry(upstream, operation)
    assert found is not None
    return found


def recorded(
    name: str, method: str, path: str, args: dict[str, Any], *, was_declared: bool
) -> ToolCall:
    upstream = name.partition("/")[0]
    tool = entry(name).tool if was_declared else SET.catalogue.unknown(upstream).tool
    http = HttpFacts(method, path, "", "127.0.0.1", {})
    dialect = "rest" if upstream == "shop" else "mcp"
    called = None if was_declared else name.partition("/")[2]
    return ToolCall("0" * 32, tool, method, args, http, "", (), b"", dialect, called=called)


@pytest.mark.parametrize(
    ("name", "method", "path", "was_declared", "args", "now"),
    [
        # Nobody had declared it: its path joins its arguments, and is read as declared.
        ("shop/get", "GET", "/orders/7", False, {}, {"number": 7}),
        ("shop/get", "HEAD", "/orders/7", False, {}, {"number": 7}),
        ("shop/get", "GET", "/orders/7", False, {"wide": "true"}, {"number": 7, "wide": True}),
        ("shop/get", "GET", "/orders/7", False, {"tags": "a"}, {"number": 7, "tags": ["a"]}),
        ("shop/refund", "POST", "/orders/7/refund", False, {"amount": 5},
         {"number": 7, "amount": 5}),
        # It was declared without types, or with others.
        ("shop/get", "GET", "/orders/7", True, {"number": "7"}, {"number": 7}),
        ("shop/get", "GET", "/orders/7", True, {"number": 7}, {"number": 7}),
        ("shop/get", "GET", "/orders/7", True, {"number": 7, "tags": ["a", "b"]},
         {"number": 7, "tags": ["a", "b"]}),
        ("shop/named", "PUT", "/names/7", True, {"name": 7}, {"name": "7"}),
        ("shop/named", "PUT", "/names/true", True, {"name": True}, {"name": "true"}),
        ("shop/free", "POST", "/free", True, {"x": [1, {}]}, {"x": [1, {}]}),
        # Its arguments have no types any more.
        ("shop/any-name", "GET", "/names/7", True, {"name": 7, "q": ["a"], "wide": True},
         {"name": "7", "q": "a", "wide": "true"}),
        ("shop/any-name", "GET", "/names/a", True, {"name": "a", "body_size": 7},
         {"name": "a", "body_size": 7}),
        ("shop/free-one", "POST", "/free/7", True, {"id": 7, "x": 7}, {"id": "7", "x": 7}),
        ("files/read", "POST", "/", False, {"path": "a", "lines": 3}, {"path": "a", "lines": 3}),
    ],
)  # fmt: skip
def test_what_came_as_text_is_read_as_declared_now(
    name: str, method: str, path: str, was_declared: bool, args: dict[str, Any], now: dict[str, Any]
) -> None:
    call = recorded(name, method, path, args, was_declared=was_declared)
    found, hidden = under_set(SET, call, NOTHING_HIDDEN)
    assert (found.tool, found.args, hidden) == (entry(name).tool, now, NOTHING_HIDDEN)
    assert {k: type(v) for k, v in found.args.items()} == {k: type(v) for k, v in now.items()}


@pytest.mark.parametrize(
    ("name", "args", "was_declared", "doubtful"),
    [
        ("shop/refund", {"amount": "5"}, False, "amount"),  # JSON, refused; or a form, taken
        ("shop/refund", {"amount": "5.5", "number": "7"}, True, "amount"),
        ("shop/refund", {"amount": 5, "number": 7, "note": 9}, True, "note"),  # it was an `int`
    ],
)
def test_what_may_have_come_as_either_is_not_known(
    name: str, args: dict[str, Any], was_declared: bool, doubtful: str
) -> None:
    call = recorded(name, "POST", "/orders/7/refund", args, was_declared=was_declared)
    found, hidden = under_set(SET, call, NOTHING_HIDDEN)
    assert hidden.arguments == {(doubtful,)}
    assert found.args == {**args, "number": 7}


@pytest.mark.parametrize(
    ("name", "method", "path", "args", "was_declared"),
    [
        ("shop/get", "GET", "/orders/seven", {}, False),
        ("shop/get", "GET", "/orders/7", {"other": "x"}, False),
        ("shop/refund", "POST", "/orders/7/refund", {}, False),  # `amount` is missing
        ("shop/refund", "POST", "/orders/7/refund", {"amount": "much"}, False),
        ("shop/refund", "POST", "/orders/7/refund", {"amount": 5, "note": 9}, False),
        ("files/read", "POST", "/", {"path": "a", "lines": "3"}, True),
        ("files/read", "POST", "/", {"lines": 3}, True),
    ],
)
def test_what_the_tool_takes_in_no_way_is_refused_as_it_would_be(
    name: str, method: str, path: str, args: dict[str, Any], was_declared: bool
) -> None:
    call = recorded(name, method, path, args, was_declared=was_declared)
    with pytest.raises(Refused) as caught:
        under_set(SET, call, NOTHING_HIDDEN)
    assert caught.value.code == "invalid_argument"


def test_what_is_masked_is_held_against_nothing() -> None:
    call = recorded(
        "shop/refund", "POST", "/", {"number": "***", "amount": "***"}, was_declared=True
    )
    masked = Hidden(arguments=frozenset({("number",), ("amount",)}))
    assert bound_again(call, entry("shop/refund"), masked) == (call, masked)
    everything = Hidden(arguments=frozenset({()}))
    call = call._replace(args={})
    assert bound_again(call, entry("shop/refund"), everything) == (call, everything)
    path = recorded("shop/get", "GET", "/orders/***", {}, was_declared=False)
    found, hidden = under_set(SET, path, NOTHING_HIDDEN)
    assert (found.args, hidden.arguments) == ({"number": "***"}, {("number",)})


@pytest.mark.parametrize("was_declared", [True, False])
@pytest.mark.parametrize("said", [None, False, True])
def test_a_tool_that_is_only_asked_for_is_found_and_may_be_said_to_change_something(
    was_declared: bool, said: bool | None
) -> None:
    tool = entry("ask/look").tool if was_declared else SET.catalogue.unknown("ask").tool
    call = ToolCall(
        "0" * 32, tool, "look", {"a": 1}, HttpFacts("", "", "", "127.0.0.1", {}), "", (), b"",
        "authorize", called=None if was_declared else "ask/look",
        beside={} if said is None else {"mutates_state": said},
    )  # fmt: skip
    found, _ = under_set(SET, call)
    assert (found.tool.name, found.tool.mutates, found.args) == ("ask/look", said is True, {"a": 1})


@pytest.mark.parametrize(
    ("method", "path", "then", "args", "now", "are"),
    [
        # Its name is what it was, though another route would fit.
        ("GET", "/orders/7", "shop/get", {"number": "7"}, "shop/get", {"number": 7}),
        # Of what a wide route took then, a narrow one takes some now.
        ("GET", "/names/all", "shop/any-name", {"name": "all"}, "shop/all-names", {}),
        ("HEAD", "/names/all", "shop/any-name", {"name": "all"}, "shop/all-names", {}),
        ("GET", "/names/all", "shop/any-name", {"name": "all", "q": "x"}, "shop/all-names",
         {"q": "x"}),
        ("GET", "/names/of/ann", "shop/any-name", {"name": "of/ann"}, "shop/any-name",
         {"name": "of/ann"}),  # sent as `%2F`
        ("GET", "/files/of/ann", "shop/any-file", {"path": "of/ann"}, "shop/files-of",
         {"who": "ann"}),
        ("GET", "/gone", "shop/get", {"number": 7}, "shop/get", {"number": 7}),
    ],
)  # fmt: skip
def test_a_request_is_the_tool_whose_route_takes_it_now(
    method: str, path: str, then: str, args: dict[str, Any], now: str, are: dict[str, Any]
) -> None:
    call = recorded(then, method, path, args, was_declared=True)
    found, hidden = under_set(SET, call, NOTHING_HIDDEN)
    assert (found.tool.name, found.args, hidden) == (now, are, NOTHING_HIDDEN)
    unseen = Hidden(facts=frozenset({"http.path"}))
    assert under_set(SET, call, unseen)[0].tool.name == then, "the path is masked"
