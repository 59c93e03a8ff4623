"""A containment of a tool that nothing here is called by: begun all the same, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest
from identity_setup import configured, place

from sidecar.identity.containment_remarks import KnownTools
from sidecar.identity.containment_words import read_wanted
from sidecar.model import Tool
from sidecar.policy.catalogue import Catalogue, Entry
from storage.errors import StoreUnavailable
from storage.standing import PinMark

LISTED = ("send", "read_all")


def declared(upstream: str, operation: str) -> Entry:
    return Entry(Tool(upstream, operation))


CATALOGUE = Catalogue(
    {"mail": {"delete": declared("mail", "delete")}, "shop": {"buy": declared("shop", "buy")}},
    {}, {}, ("mail",),
)  # fmt: skip


class Marks:
    """A store in which mail's list was seen."""

    async def tool_marks(self, tenant_id: str, upstream: str) -> list[PinMark]:
        if (tenant_id, upstream) != ("acme", "mail"):
            return []
        return [PinMark(name, 1, "00", "") for name in LISTED]


def known(tmp_path: Path) -> KnownTools:
    shop = configured(tmp_path).upstreams["shop"]
    upstreams = {"shop": shop, "mail": shop.model_copy(update={"kind": "mcp"})}
    return KnownTools(upstreams, lambda: CATALOGUE, Marks())


@pytest.mark.parametrize(
    "tool",
    ["mail/send", "mail/read_all", "mail/delete", "mail/unknown", "mail/mcp:resources/read",
     "shop/buy", "shop/unknown"],
)  # fmt: skip
async def test_of_a_tool_that_is_declared_or_was_listed_nothing_is_said(
    tmp_path: Path, tool: str
) -> None:
    assert await known(tmp_path).remark("acme", tool) == ""


@pytest.mark.parametrize(("tool", "says", "meant"), [
    ("mail/sned", "no catalogue declares mail/sned, nor has its server listed it", "mail/send"),
    ("mail/delet", "no catalogue declares mail/delet, nor has", "mail/delete"),
    ("shop/by", "no catalogue declares shop/by, so", "shop/buy"),
    ("shop/mcp:tools/call", "no catalogue declares shop/mcp:tools/call, so", ""),
    ("mial/delete", "no upstream here is called mial", "mail/delete"),
    ("ledger/post", "no upstream here is called ledger", ""),
])  # fmt: skip
async def test_of_a_name_nothing_is_called_by_it_is_said_with_what_may_be_meant(
    tmp_path: Path, tool: str, says: str, meant: str
) -> None:
    said = await known(tmp_path).remark("acme", tool)
    assert said.startswith(says) and "hold no call at all" in said
    assert said.endswith(f"did you mean {meant}?") if meant else "did you mean" not in said


async def test_what_another_tenant_s_server_listed_is_not_known(tmp_path: Path) -> None:
    assert await known(tmp_path).remark("rival", "mail/send")


@pytest.mark.parametrize("action", ["block-tool", "force-approval"])
async def test_an_odd_name_is_contained_all_the_same_and_the_remark_goes_with_it(
    tmp_path: Path, action: str
) -> None:
    async with place(tmp_path) as at:
        odd = read_wanted("acme", action, "shop/by", actor="socket:root")
        done = await at.callers.containing.contain(odd)
        assert done.row.state == "active"
        assert done.remark.startswith("no catalogue declares shop/by")
        agent = read_wanted("acme", "force-approval", "coder", actor="socket:root")
        assert (await at.callers.containing.contain(agent)).remark == "", "an agent, no tool"


async def test_a_store_that_cannot_say_keeps_nothing_from_being_contained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(tenant: str, tool: str) -> str:
        raise StoreUnavailable("the store does not answer")

    async with place(tmp_path) as at:
        monkeypatch.setattr(at.callers.containing._known, "remark", cannot)
        wanted = read_wanted("acme", "block-tool", "shop/buy", actor="socket:root")
        done = await at.callers.containing.contain(wanted)
        assert done.row.state == "active"
        assert "could not be looked up: the store does not answer" in done.remark
