"""Policies looked at and tried: nothing that is sent in is ever put in force."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from api_setup import CATALOGUE, POLICY, Served, key_of

from sidecar.control.api import backroom, policies

VIEWER = key_of("acme", "viewer")
TIGHTER = POLICY.replace("<= 50", "<= 20")


def files(policy: str = POLICY, **more: str) -> dict[str, Any]:
    return {"files": {"a/shop.yaml": policy, "a/tools.yaml": CATALOGUE, **more}}


async def check(served: Served, body: Any) -> tuple[int, Any]:
    said = await served.ask("/v1/policies/check", VIEWER, method="POST", body=body)
    return said[0], said[1]


async def test_the_set_in_force_and_its_rules(served: Served) -> None:
    _, (body,), _ = await served.ask("/v1/policies", VIEWER)
    assert body["revision"] == served.policies.current.revision
    assert body["files"] == ["policies/catalogue.yaml", "policies/shop.yaml"]
    assert (body["files_are_in_force"], body["problems"], body["rules"]) == (True, [], 4)
    _, rules, _ = await served.ask("/v1/policies/rules", VIEWER)
    assert [one["rule"] for one in rules] == ["shop/logins", "shop/reads", "shop/small"]
    assert rules[1]["place"] == "policies/shop.yaml:3:10"
    _, rivals, _ = await served.ask("/v1/policies/rules", key_of("rival", "viewer"))
    assert "shop/only-rival" in [one["rule"] for one in rivals], "a rule about one tenant alone"
    assert (await served.ask("/v1/policies/rules?mode=shadow", VIEWER))[1] == []


async def test_files_that_are_broken_are_told_of(served: Served) -> None:
    path = served.policies._base / "policies" / "shop.yaml"
    path.write_text(POLICY.replace("effect: allow", "efect: allow", 1))
    await served.policies.reload()
    _, (body,), _ = await served.ask("/v1/policies", VIEWER)
    assert body["files_are_in_force"] is False
    assert body["problems"][0]["source"] == "policies/shop.yaml"
    assert body["problems"][0]["line"] == 3
    assert len((await served.ask("/v1/policies/rules", VIEWER))[1]) == 3, "the set before"


async def test_texts_are_checked_with_every_problem_and_its_place(served: Served) -> None:
    status, body = await check(served, files())
    assert (status, body["loads"], body["rules"], body["problems"]) == (200, True, 4, [])
    assert body["revision"] == served.policies.current.revision, "as the configuration would load"
    status, body = await check(
        served, files(POLICY.replace("effect: allow", "efect: allow", 1), **{"b.yaml": "x"})
    )
    assert (status, body["loads"], body["revision"]) == (200, False, None)
    assert {one["source"] for one in body["problems"]} == {"a/shop.yaml", "b.yaml"}
    assert all(one["message"] and one["severity"] == "error" for one in body["problems"])
    assert served.policies.reloads == 1, "nothing was put in force"
    status, body = await check(served, {**files(), "packs": ["no-such"]})
    assert (status, body["detail"]) == (404, "there is no pack 'no-such'")
    with_pack = await check(served, {"files": {"c.yaml": CATALOGUE}, "packs": ["read-only"]})
    assert with_pack[1]["loads"] and with_pack[1]["rules"] >= 1


async def test_a_text_has_nothing_of_the_file_system(served: Served) -> None:
    for name in ("/etc/passwd", "../a.yaml", "a/../b.yaml", "pack:x/a.yaml", "a//b.yaml", "a.yaml/",
                 "./a.yaml", "a\nb.yaml", ""):  # fmt: skip
        status, body = await check(served, {"files": {name: POLICY}})
        assert (status, body["code"]) == (400, "invalid_body"), name
        assert body["parameter"].startswith("files"), name
    for named in ("/etc/hostname", "../../etc/hostname", "api.json"):
        catalogue = f"catalogue: shop\nopenapi: {named}\n"
        _, body = await check(served, {"files": {"a/tools.yaml": catalogue}})
        assert not body["loads"], named
        assert "cannot be read" in str(body) or "was not sent along" in str(body), body
    sent = '{"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": {}}'
    catalogue = "catalogue: shop\nopenapi: ./api.json\n"
    _, body = await check(
        served, {"files": {"a/tools.yaml": catalogue, "a/api.json": sent, "a/shop.yaml": POLICY}}
    )
    assert "was not sent along" not in str(body), "what is sent along is read"


async def test_a_described_call_is_explained(served: Served) -> None:
    async def explained(call: Any) -> Any:
        said = await served.ask("/v1/policies/explain", VIEWER, method="POST", body={"call": call})
        return said[1]

    body = await explained({"call": "shop/refund", "args": {"amount": 45}})
    assert (body["decision"]["effect"], body["decision"]["rule"]) == ("allow", "shop/small")
    assert body["agent"]["tenant"] == "acme" and body["recorded"] is None
    body = await explained({"call": "shop/refund", "args": {"amount": 51}})
    assert body["decision"]["code"] == "default_deny"
    routed = {"method": "POST", "path": "/shop/orders/7/refund", "body": {"amount": 5}}
    body = await explained({"call": routed})
    assert (body["tool"]["name"], body["decision"]["effect"]) == ("shop/refund", "allow")
    body = await explained({"call": {"method": "GET", "path": "/nothing/x"}})
    assert body["decision"]["code"] == "unknown_upstream"
    for bad in ({}, {"call": 5}, {"call": "shop/get", "agent": "nobody"}, {"call": "x", "y": 1}):
        said = await explained(bad)
        assert said["decision"] is None and said["problems"], bad
    described = {"call": "shop/refund", "args": {"amount": 45}, "agent": {"name": "x"}}
    assert (await explained(described))["agent"]["tenant"] == "acme", "whoever is described"
    deep: Any = {}
    for _ in range(70):
        deep = {"a": deep}
    for odd in ({"call": "shop/get", "args": deep}, {"call": "shop/get", "args": {"a": "b\0c"}}):
        assert (await explained(odd))["decision"] is None


async def test_a_recorded_call_is_explained_under_the_policies_of_now(served: Served) -> None:
    path = served.policies._base / "policies" / "shop.yaml"
    path.write_text(TIGHTER)
    await served.policies.reload()
    _, body, _ = await served.ask("/v1/decisions/refund-acme/explanation", VIEWER)
    assert (body["decision"]["effect"], body["recorded"]["effect"]) == ("deny", "allow")
    assert body["recorded"]["rule"] == "shop/small"
    assert "http.headers" in body["hidden"]
    assert (await served.ask("/v1/decisions/nobody/explanation", VIEWER))[0] == 404
    await served.recorder.fill_unread("acme")
    said = await served.ask("/v1/decisions/unread-acme/explanation", VIEWER)
    assert (said[0], said[1]["code"]) == (409, "refused"), "it was never judged"


async def test_recorded_calls_are_replayed_by_other_policies(served: Served) -> None:
    path = "/v1/policies/replay"
    _, body, _ = await served.ask(path, VIEWER, method="POST", body=files(TIGHTER))
    assert (body["different"], body["same"], body["is_complete"]) == (1, 3, True), body
    change = body["differences"][0]
    assert (change["then"], change["now"]) == (
        {"effect": "allow", "by": "shop/small"}, {"effect": "deny", "by": "default_deny"},
    )  # fmt: skip
    assert change["examples"] == ["refund-acme"]
    assert served.policies.reloads == 1, "nothing was put in force"
    _, part, _ = await served.ask(
        path, VIEWER, method="POST", body={**files(TIGHTER), "after_seq": 0, "receipts": 3}
    )
    assert (part["until_seq"], part["is_complete"], part["different"]) == (3, False, 0)
    _, rest, _ = await served.ask(
        path, VIEWER, method="POST", body={**files(TIGHTER), "after_seq": part["until_seq"]}
    )
    assert rest["same"] + part["same"] == 3 and rest["different"] == 1
    broken = await served.ask(path, VIEWER, method="POST", body=files("policy: x\nrules: 5"))
    assert (broken[0], broken[1]["parameter"]) == (409, "files")


async def test_a_replay_ends_in_time(served: Served, monkeypatch: Any) -> None:
    monkeypatch.setattr(policies, "REPLAY_S", -1.0)
    monkeypatch.setattr(policies, "PIECE_ROWS", 2)
    _, body, _ = await served.ask("/v1/policies/replay", VIEWER, method="POST", body=files(TIGHTER))
    assert (body["until_seq"], body["is_complete"]) == (2, False)


async def test_few_wait_for_the_one_who_computes(served: Served, monkeypatch: Any) -> None:
    monkeypatch.setattr(backroom, "WAITING_MAX", 1)
    bodies = [served.ask("/v1/policies/check", VIEWER, method="POST", body=files())] * 1
    said = await asyncio.gather(
        *bodies, served.ask("/v1/policies/check", VIEWER, method="POST", body=files())
    )
    assert sorted(one[0] for one in said) == [200, 503]
    assert (await check(served, files()))[0] == 200, "and then the next"


async def test_an_explanation_tells_no_tenant_of_rules_of_others(served: Served) -> None:
    viewer = key_of("acme", "viewer")
    _, rules, _ = await served.ask("/v1/policies/rules", viewer)
    assert "only-rival" not in json.dumps(rules), "as lists of rules do"
    body = {"call": {"call": "shop/refund", "args": {"amount": 45}}}
    status, said, _ = await served.ask("/v1/policies/explain", viewer, method="POST", body=body)
    assert status == 200 and said["rules"]
    assert "only-rival" not in json.dumps(said), said["rules"]
    status, said, _ = await served.ask("/v1/decisions/refused-acme/explanation", viewer)
    assert status == 200 and "only-rival" not in json.dumps(said), said["rules"]
