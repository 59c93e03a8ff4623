"""C1, C8, C11: what needs no rule is what the official models say, up to bounds, and no more."""

from __future__ import annotations

from typing import Any, get_args

import mcp_types as types
import pytest
from mcp_types.methods import CLIENT_NOTIFICATIONS, CLIENT_REQUESTS
from pydantic import BaseModel

from sidecar.policy.matchers import CLIENT_ANSWER, MCP_PREFIX
from sidecar.proxy.dialects import mcp_params
from sidecar.proxy.dialects.mcp_methods import (
    KNOWN_METHODS,
    PROTOCOL_NOTIFICATIONS,
    PROTOCOL_REQUESTS,
    RESPONSE,
)
from sidecar.proxy.dialects.mcp_params import (
    CURSOR_LENGTH_MAX,
    FREE_BYTES_MAX,
    MEMBERS,
    NAME_LENGTH_MAX,
    PROTOCOL_PARAMS,
    TEXT_LENGTH_MAX,
    is_bare_answer,
    is_protocol_message,
    misspelt_member,
)

CLIENT = types.Implementation(
    name="client",
    title="A client",
    version="1.2.3",
    website_url="https://client.example/",
    icons=[types.Icon(src="https://client.example/icon.png", mime_type="image/png")],
)
CAPABILITIES = types.ClientCapabilities(
    roots=types.RootsCapability(list_changed=True),
    sampling=types.SamplingCapability(),
    elicitation=types.ElicitationCapability(form=types.FormElicitationCapability()),
    experimental={"vendor.example/x": {"on": True}},
)
#: As a client under OpenTelemetry sends it; from 2026-07-28 on with who it is, too.
META: Any = {
    "progressToken": "token-1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "baggage": "userId=alice,serverNode=DF%2028",
    "vendor.example/locale": "en-GB",
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT.model_dump(by_alias=True, exclude_none=True),
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES.model_dump(
        by_alias=True, exclude_none=True
    ),
}
PAGE = types.PaginatedRequestParams(cursor="b3BhcXVl", _meta=META)
NEWS = types.SubscriptionFilter(tools_list_changed=True, prompts_list_changed=False)
SENT: tuple[Any, ...] = (
    types.InitializeRequest(
        params=types.InitializeRequestParams(
            protocol_version="2025-11-25", capabilities=CAPABILITIES, client_info=CLIENT, _meta=META
        )
    ),
    types.PingRequest(),
    types.PingRequest(params=types.RequestParams(_meta=META)),
    types.DiscoverRequest(params=types.RequestParams(_meta=META)),
    types.ListToolsRequest(),
    types.ListToolsRequest(params=PAGE),
    types.ListPromptsRequest(params=PAGE),
    types.ListResourcesRequest(params=PAGE),
    types.ListResourceTemplatesRequest(params=PAGE),
    types.SetLevelRequest(params=types.SetLevelRequestParams(level="notice", _meta=META)),
    types.SubscriptionsListenRequest(
        params=types.SubscriptionsListenRequestParams(notifications=NEWS, _meta=META)
    ),
    types.InitializedNotification(),
    types.InitializedNotification(params=types.NotificationParams(_meta=META)),
    types.CancelledNotification(
        params=types.CancelledNotificationParams(
            request_id=7, reason="McpError: MCP error -32001: Request timed out", _meta=META
        )
    ),
    types.ProgressNotification(
        params=types.ProgressNotificationParams(
            progress_token="token-1", progress=0.5, total=2, message="half of it", _meta=META
        )
    ),
    types.RootsListChangedNotification(params=types.NotificationParams(_meta=META)),
)


def as_params(message: BaseModel, *, exclude_none: bool = True) -> tuple[str, dict[str, Any], bool]:
    """Method, params and whether a reply is expected, as the SDK puts it on the wire."""
    said = message.model_dump(by_alias=True, mode="json", exclude_none=exclude_none)
    return said["method"], said.get("params") or {}, isinstance(message, types.Request)


def members(model: type[BaseModel]) -> set[str]:
    """What the params of a request or notification may have, as the schema of a revision says."""
    field = model.model_fields.get("params")
    kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
    found: set[str] = set()
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {one.alias or name for name, one in kind.model_fields.items()}
    return found


@pytest.mark.parametrize("message", SENT, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("exclude_none", [True, False], ids=["without nulls", "with nulls"])
def test_c8_what_the_official_sdk_sends_needs_no_rule(message: Any, exclude_none: bool) -> None:
    method, params, expects_reply = as_params(message, exclude_none=exclude_none)
    assert is_protocol_message(method, params, expects_reply=expects_reply)
    assert misspelt_member(method, params) is None


@pytest.mark.parametrize("message", SENT, ids=lambda one: type(one).__name__)
def test_c11_with_another_member_it_is_judged(message: Any) -> None:
    method, params, expects_reply = as_params(message)
    for more in ({"data": "stolen"}, {"data": None}, {"_meta": "stolen"}, {"_meta": ["stolen"]}):
        assert not is_protocol_message(method, {**params, **more}, expects_reply=expects_reply)


def test_c8_c11_the_table_is_that_of_the_schemas() -> None:
    declared: dict[str, set[str]] = {}
    for (method, _), model in {**CLIENT_REQUESTS, **CLIENT_NOTIFICATIONS}.items():
        declared.setdefault(method, set()).update(members(model))
    assert declared.keys() >= PROTOCOL_REQUESTS | PROTOCOL_NOTIFICATIONS
    for method, names in declared.items():
        assert MEMBERS[method] == names | {"_meta"}, method
    assert PROTOCOL_PARAMS.keys() == PROTOCOL_REQUESTS | PROTOCOL_NOTIFICATIONS
    assert MEMBERS.keys() == KNOWN_METHODS
    assert {type(one).model_fields["method"].default for one in SENT} == PROTOCOL_PARAMS.keys()


def free(size: int) -> dict[str, str]:
    """An object that takes so many bytes as JSON."""
    return {"x": "y" * (size - len('{"x":""}'))}


#: What is at its bound, and what is one beyond it.
BOUNDS: tuple[tuple[str, str, Any, Any], ...] = (
    ("ping", "_meta", free(FREE_BYTES_MAX), free(FREE_BYTES_MAX + 1)),
    ("initialize", "clientInfo", free(FREE_BYTES_MAX), free(FREE_BYTES_MAX + 1)),
    ("initialize", "capabilities", free(FREE_BYTES_MAX), free(FREE_BYTES_MAX + 1)),
    ("initialize", "protocolVersion", "v" * NAME_LENGTH_MAX, "v" * (NAME_LENGTH_MAX + 1)),
    ("tools/list", "cursor", "c" * CURSOR_LENGTH_MAX, "c" * (CURSOR_LENGTH_MAX + 1)),
    ("notifications/cancelled", "reason", "r" * TEXT_LENGTH_MAX, "r" * (TEXT_LENGTH_MAX + 1)),
    ("notifications/cancelled", "requestId", "i" * NAME_LENGTH_MAX, "i" * (NAME_LENGTH_MAX + 1)),
    ("notifications/progress", "message", "m" * TEXT_LENGTH_MAX, "m" * (TEXT_LENGTH_MAX + 1)),
    ("notifications/progress", "progressToken", "t" * NAME_LENGTH_MAX, "t" * 257),
)


@pytest.mark.parametrize(("method", "name", "most", "more"), BOUNDS, ids=lambda one: str(one)[:30])
def test_c11_what_is_free_is_bounded(method: str, name: str, most: Any, more: Any) -> None:
    expects_reply = method in PROTOCOL_REQUESTS
    assert is_protocol_message(method, {name: most}, expects_reply=expects_reply)
    assert not is_protocol_message(method, {name: more}, expects_reply=expects_reply)


def test_c11_every_member_has_a_bound() -> None:
    """A member of any form that is taken whatever stands in it would be a way out."""
    much: tuple[Any, ...] = (
        "x" * 100_000,
        {"x": "y" * 100_000},
        ["x" * 100_000],
        {"x" * 100_000: 1},
    )
    for method, shape in PROTOCOL_PARAMS.items():
        for name in shape:
            for value in much:
                params = {name: value}
                expects_reply = method in PROTOCOL_REQUESTS
                assert not is_protocol_message(method, params, expects_reply=expects_reply), name


@pytest.mark.parametrize("method", sorted(KNOWN_METHODS))
def test_c1_no_member_has_a_second_spelling(method: str) -> None:
    names = sorted(MEMBERS[method])
    assert misspelt_member(method, names) is None
    for name in names:
        for other in {name.upper(), name.capitalize(), name.swapcase()} - {name}:
            assert misspelt_member(method, [other]) == other
            assert misspelt_member(method, [*names, other]) == other
    assert misspelt_member(method, [*names, "another"]) is None
    assert misspelt_member(method, [*names, "another", "Another"]) == "Another"


def test_c1_letters_that_only_some_readers_fold() -> None:
    assert misspelt_member("tasks/get", ["ta\u017fkId"]) == "ta\u017fkId"
    assert misspelt_member("tasks/get", ["tas\u212aId"]) == "tas\u212aId"
    assert misspelt_member("tools/execute", ["stra\u00dfe", "STRASSE"]) == "STRASSE"


@pytest.mark.parametrize(
    ("answer", "is_bare"),
    [
        ({"result": types.EmptyResult().model_dump(by_alias=True, exclude_none=True)}, True),
        ({"result": {"_meta": {}}}, False),
        ({"result": None}, False),
        ({"result": []}, False),
        ({"result": ""}, False),
        ({"error": {}}, False),
        ({"error": {"code": -32601, "message": "Method not found"}}, False),
    ],
    ids=str,
)
def test_c8_an_answer_to_a_ping_carries_nothing(answer: dict[str, Any], is_bare: bool) -> None:
    assert is_bare_answer(answer) is is_bare


def test_c8_policies_and_dialect_mean_the_same_answer() -> None:
    assert f"{MCP_PREFIX}{RESPONSE}" == CLIENT_ANSWER
    assert mcp_params.META == "_meta"
