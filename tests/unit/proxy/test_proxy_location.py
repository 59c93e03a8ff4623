"""Addresses in replies lead back through the sidecar or nowhere (B22, B23)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import Refused
from sidecar.proxy.location import read_base, rewrite, rewrite_links, scope_cookie

CASES = json.loads((Path(__file__).parents[2] / "cases/proxy/location.json").read_text())
BASE = read_base("https://api.acme.io/v4/")


def _rewrite(location: str) -> str:
    return rewrite(
        location, mount="/up", base=BASE, target="/items/7?x=1", redirects=("cdn.acme.io",)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["location"])
def test_b22_location(case: dict[str, Any]) -> None:
    if "gives" in case:
        assert _rewrite(case["location"]) == case["gives"]
        return
    with pytest.raises(Refused) as caught:
        _rewrite(case["location"])
    assert caught.value.code == case["refused"]


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://api.acme.io/v4/x", "another scheme or port of its host"),
        ("https://api.acme.io:8443/v4/x", "another scheme or port of its host"),
        ("https://api.acme.io/admin", "out of the path of its url"),
        ("../../login", "out of the path of its url"),
        ("https://evil.example/x", "a foreign host"),
    ],
)
def test_b22_it_is_said_what_of_a_redirect_is_foreign(location: str, why: str) -> None:
    with pytest.raises(Refused) as caught:
        _rewrite(location)
    assert why in caught.value.reason


@pytest.mark.parametrize("location", ["/files/mcp?x=1#y", "../../files/mcp?x=1#y"])
def test_b22_a_path_beside_the_base_never_leads_to_another_upstream(location: str) -> None:
    seen = rewrite(location, mount="/up", base=BASE, target="/items/7", redirects=("api.acme.io",))
    assert seen == "https://api.acme.io/files/mcp?x=1#y"


def test_b22_a_base_without_a_path_covers_the_whole_host() -> None:
    base = read_base("http://127.0.0.1:3001")
    assert rewrite("/x", mount="/up", base=base, target="", redirects=()) == "/up/x"
    assert rewrite("x", mount="/up", base=base, target="/a/b", redirects=()) == "/up/a/x"
    with pytest.raises(Refused):
        rewrite("http://127.0.0.1:3002/x", mount="/up", base=base, target="", redirects=())


@pytest.mark.parametrize("url", ["ftp://a/b", "a/b", "http://", "//a/b"])
def test_a_base_is_an_http_url(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        read_base(url)


def test_a_base_names_its_authority_without_user_or_default_port() -> None:
    assert read_base("https://u:p@API.acme.io:443/x/").authority == "api.acme.io"
    assert read_base("http://[::1]:3000/x").authority == "[::1]:3000"


@pytest.mark.parametrize(
    ("cookie", "scoped"),
    [
        ("s=1; Path=/; HttpOnly", "s=1; HttpOnly; Path=/up"),
        ("s=1; Path=/v4/items", "s=1; Path=/up/items"),
        ("s=1; path=/other; Domain=.acme.io", "s=1; Path=/up"),
        ("s=1", "s=1; Path=/up"),
        ("s=1; DOMAIN=acme.io; Secure; SameSite=Lax", "s=1; Secure; SameSite=Lax; Path=/up"),
    ],
)
def test_b23_a_cookie_stays_with_its_upstream(cookie: str, scoped: str) -> None:
    assert scope_cookie(cookie, mount="/up", base=BASE) == scoped


@pytest.mark.parametrize(
    ("cookie", "scoped"),
    [
        ("a=1; Secure", "a=1; Path=/up"),
        ("a=1;secure;HttpOnly; Path=/v4/x", "a=1;HttpOnly; Path=/up/x"),
        ("a=Secure; SameSite=Lax; SECURE=x", "a=Secure; SameSite=Lax; Path=/up"),
        ("__Secure-a=1; Secure", "__Secure-a=1; Secure; Path=/up"),
        ("__host-a=1; Secure; Path=/", "__host-a=1; Secure; Path=/up"),
    ],
)
def test_b23_a_cookie_over_plain_http_is_one_that_clients_send_again(
    cookie: str, scoped: str
) -> None:
    assert scope_cookie(cookie, mount="/up", base=BASE, is_secured=False) == scoped
    assert "secure" in scope_cookie(cookie, mount="/up", base=BASE).lower()


@pytest.mark.parametrize(
    ("link", "seen"),
    [
        (
            '<https://api.acme.io/v4/a?page=2>; rel="next", <https://API.acme.io:443/v4/>; rel=up',
            '<http://here:8080/up/a?page=2>; rel="next", <http://here:8080/up/>; rel=up',
        ),
        ("<https://api.acme.io/v4>; rel=up", "<http://here:8080/up>; rel=up"),
        ("</v4/items?page=2>; rel=next", "</up/items?page=2>; rel=next"),
        ("<?page=2>; rel=next", None),
        ("<page/2>; rel=next", None),
        ("<//api.acme.io/v4/x>; rel=next", "<http://here:8080/up/x>; rel=next"),
        ("<https://docs.acme.io/v4/x>; rel=help", None),
        ("<https://api.acme.io/login>; rel=help", None),
        ("<https://api.acme.io/v4evil/x>; rel=help", None),
        ("<https://api.acme.io/v4/../x>; rel=help", None),
        ("<https://api.acme.io/v4/%2e%2e/x>; rel=help", None),
        ("<https://u@api.acme.io/v4/x>; rel=help", None),
        ("<https://api.acme.io:x/v4/x>; rel=help", None),
        ("<https://[/v4/x>; rel=help", None),
        ("<https://api.acme.io/v4/a b>; rel=help", None),
        ("<data:,x>; rel=icon", None),
        ("no link", None),
        ("<>", None),
    ],
)
def test_b22_links_below_the_base_lead_through_the_sidecar(link: str, seen: str | None) -> None:
    way = {"mount": "/up", "origin": "http://here:8080", "target": "/items/7?x=1"}
    assert rewrite_links(link, base=BASE, **way) == (link if seen is None else seen)


def test_b22_links_under_a_host_of_its_own_have_the_whole_path() -> None:
    way = {"mount": "", "origin": "https://api.tools", "target": "/items"}
    link = "<https://api.acme.io/v4/items?page=2>, <https://api.acme.io/v4>"
    seen = "<https://api.tools/items?page=2>, <https://api.tools/>"
    assert rewrite_links(link, base=BASE, **way) == seen
