"""G2: SQL in every filter, and cursors of somebody's own making, on both engines."""

from __future__ import annotations

import base64
import urllib.parse
from dataclasses import replace

from api_examples import in_shadow
from api_setup import TENANTS, Served, key_of

from sidecar.control.api.cursors import KEY_BYTES, Cursors
from sidecar.control.api.parameters import CURSOR, Parameter, Text
from sidecar.control.api.route import Route
from sidecar.control.api.table import ROUTES

HOSTILE = (
    "' OR '1'='1", "' OR 1=1 --", "x'; DROP TABLE receipts; --", '" OR ""="',
    "acme' UNION SELECT 1", "$1", "?1", "%", "_", "\\", "*", "{}", "NULL", "0x27", "coder-acme'",
    "ʼ OR 1=1", "\u202e",
    "a" * 256,
)  # fmt: skip
FILTERS = [
    (route, one)
    for route in ROUTES
    for one in route.every_parameter
    if one.place == "query" and isinstance(one.kind, Text) and one is not CURSOR
]


def test_there_are_filters_to_try() -> None:
    assert len(FILTERS) >= 15


async def test_g2_no_filter_is_anything_but_a_value(served_by_each: Served) -> None:
    served = served_by_each
    for route, one in FILTERS:
        for text in HOSTILE:
            status, body, _ = await served.ask(_path(route, one, text), method=route.method)
            assert status in (200, 404), (route.name, one.name, text, body)
            if isinstance(body, list):
                assert body == [], (route.name, one.name, text)
            assert "rival" not in str(body), (route.name, one.name, text)
    for tenant in TENANTS:
        assert (await served.store.head(tenant)).seq >= 12, "nothing was dropped"
    assert len((await served.ask("/v1/decisions"))[1]) == 4, "positive control"


def _path(route: Route, one: Parameter, text: str) -> str:
    path = route.path.replace("{agent_id}", "coder-acme")
    return f"{path}?{one.name}={urllib.parse.quote(text, safe='')}"


async def test_g2_ids_in_paths_are_values_too(served: Served) -> None:
    for text in HOSTILE[:-1]:
        quoted = urllib.parse.quote(text, safe="")
        for path in ("decisions", "agents", "approvals"):
            assert (await served.ask(f"/v1/{path}/{quoted}"))[0] == 404, text
        assert (await served.ask(f"/v1/receipts/{quoted}"))[0] == 404, text


async def cursor(served: Served, path: str, key: str) -> str:
    _, _, headers = await served.ask(path, key)
    return headers["X-Next-Cursor"]


async def test_g2_a_cursor_is_good_for_its_own_list_alone(served_by_each: Served) -> None:
    served, key = served_by_each, key_of("acme", "viewer")
    good = await cursor(served, "/v1/decisions?limit=1&agent_id=coder-acme", key)
    path = "/v1/decisions?limit=1&agent_id=coder-acme&cursor="
    assert (await served.ask(path + good, key))[0] == 200, "positive control"
    auditor = key_of("acme", "auditor")
    assert (await served.ask(path + good, auditor))[0] == 200, "of the tenant, not of the person"
    raw = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4))
    flipped = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode()
        for at in range(len(raw))
    ]
    forged = [base64.urlsafe_b64encode(bytes(16) + b"[0,99]").decode(), "[0,99]", "AAAA", "%00A",
              "a" * 512, good[:-2], good + "AAAA", "é", "==", good.swapcase()]  # fmt: skip
    for one in [*flipped, *forged]:
        quoted = urllib.parse.quote(one, safe="%")
        status, body, _ = await served.ask(path + quoted, key)
        assert status == 400, one
        assert body["parameter"] == "cursor"
    others = (
        ("/v1/decisions?limit=1&cursor=", key), ("/v1/decisions?agent_id=x&cursor=", key),
        ("/v1/decisions?agent_id=coder-acme&tool=x&cursor=", key), ("/v1/receipts?cursor=", key),
        ("/v1/audit/events?cursor=", key), ("/v1/agents?cursor=", key),
        ("/v1/decisions?limit=1&agent_id=coder-acme&cursor=", key_of("rival", "viewer")),
    )  # fmt: skip
    for where, whose in others:
        status, body, _ = await served.ask(where + good, whose)
        assert (status, body["code"]) == (400, "invalid_cursor"), where


async def test_a_cursor_is_good_on_another_node_and_after_a_restart(
    served_by_each: Served,
) -> None:
    served, key = served_by_each, key_of("acme", "viewer")
    path = "/v1/decisions?limit=1"
    whole = (await served.ask("/v1/decisions", key))[1]
    good = await cursor(served, path, key)
    other = replace(served, url=await served.another())
    assert (await other.ask(f"{path}&cursor={good}", key))[1] == whole[1:2]
    elsewhere = Cursors(bytes(KEY_BYTES)).made("list_decisions", "acme", {}, (0, 1))
    assert (await served.ask(f"{path}&cursor={elsewhere}", key))[1]["code"] == "invalid_cursor"


async def test_every_list_goes_on_where_it_left_off(served: Served) -> None:
    await served.recorder.notice("acme")
    await in_shadow(served)
    for name in ("one", "another"):
        await served.recorder.call("acme", f"{name}-that-differs", args={"id": "7"})
    lists = [one for one in ROUTES if one.pages]
    assert len(lists) >= 8
    for route in lists:
        whole = (await served.ask(route.path))[1]
        assert len(whole) >= 1, route.name
        assert await served.pages(f"{route.path}?limit=1") == whole, route.name
        if route.pages != "offset":
            continue
        assert (await served.ask(f"{route.path}?offset=1"))[1] == whole[1:], route.name
        _, _, headers = await served.ask(f"{route.path}?limit=1")
        if "X-Next-Cursor" in headers:
            both = f"{route.path}?limit=1&offset=1&cursor={headers['X-Next-Cursor']}"
            assert (await served.ask(both))[1]["parameter"] == "offset", route.name
