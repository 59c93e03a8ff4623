"""A call that has to be judged anew because its caller changed tells its run from the agent's own.

Such a call did not rest on its run, so that the store has nothing to say of it; what it says of
another run must not be taken for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy_whole_setup import Whole, receipts, whole
from proxy_wire_setup import answering

from sidecar.identity.containment_words import read_wanted

POLICIES = {
    "api.yaml": (
        "catalogue: api\ntools:\n"
        "  get: {route: GET /get, mutates: false, returns: trusted_internal_signed}\n"
        "  mail: {route: GET /mail, returns: untrusted_external, labels: reads-private}\n"
        "  web: {route: GET /web, returns: untrusted_external}\n"
    ),
    "p.yaml": "policy: p\nrules: [{id: all, effect: allow, tools: 'api/*'}]\n",
}
TENANTS = "tenants: {acme: {agents: {coder: {}}}}\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def called(at: Whole, tool: str, run: str = "") -> int:
    answer = await at.ask("GET", f"/api/{tool}", headers={"Aegis-Run": run} if run else {})
    return answer.status


async def test_w2_a_run_is_blocked_whatever_else_changed_while_it_called(tmp_path: Path) -> None:
    async with whole(tmp_path, answering(OK), POLICIES, TENANTS, ", run: trusted") as at:
        registry, containing = at.sidecar.callers.registry, at.sidecar.callers.containing
        # The agent's own run has a longer history than the other.
        for tool in ("get", "web", "mail"):
            assert await called(at, tool) == 200
        assert await called(at, "get", "r1") == 200
        await registry._store.raise_epoch("acme")  # type: ignore[attr-defined]
        # Found stale, and judged anew.
        assert await called(at, "get", "r1") == 200
        blocked = read_wanted("acme", "block-run", "coder/r1", "", actor="test", reason="test")
        contained = await containing.contain(blocked)
        assert await called(at, "get", "r1") == 403
        assert await called(at, "get", "r2") == 200 == await called(at, "get"), "positive control"
        await containing.undo("acme", contained.row.containment_id, actor="test")
        assert await called(at, "get", "r1") == 200
    found = [row for row in receipts(tmp_path) if row["run_id"] == "r1" and row["facts"]]
    runs = [row["facts"].get("run") for row in found]
    assert runs[0] is None and all(run["calls"] == 1 for run in runs[1:])
    assert all(run["trust"] != "untrusted_external" for run in runs[1:])
    assert {row["outcome"] for row in found} == {None, "contained"}


@pytest.mark.parametrize(("words", "status"), [("", 403), (", run: window", 403),
                                               (", run: trusted", 200)])  # fmt: skip
async def test_w2_a_run_by_the_callers_word_divides_nothing_unless_the_upstream_is_trusted_with_it(
    tmp_path: Path, words: str, status: int
) -> None:
    falls = "  - {id: fell, effect: deny, tools: api/get, run: {trust: untrusted_external}}\n"
    allows = "policy: p\nrules:\n  - {id: all, effect: allow, tools: 'api/*'}\n"
    policies = {**POLICIES, "p.yaml": allows + falls}
    async with whole(tmp_path, answering(OK), policies, TENANTS, words) as at:
        assert await called(at, "get", "r1") == 200
        assert await called(at, "web", "r1") == 200
        assert await called(at, "get", "r1") == 403
        assert await called(at, "get", "r2") == status
