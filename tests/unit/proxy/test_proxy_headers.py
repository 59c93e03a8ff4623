"""Which headers pass (B11, B12, B21, B23)."""

from __future__ import annotations

import pytest
from proxy_wire_setup import CALL_ID, upstream_of

from sidecar.config.credential_model import QueryPart
from sidecar.config.model import Auth, Secret
from sidecar.errors import Refused
from sidecar.proxy.head import HeadRules, RequestHead, read_head
from sidecar.proxy.headers import forward_headers, reply_headers
from sidecar.proxy.upstream import Reply

UPSTREAM = upstream_of(3001, path="/v4")


def head(*headers: tuple[str, str]) -> RequestHead:
    raw = [(name.encode(), value.encode()) for name, value in (("Host", "localhost"), *headers)]
    rules = HeadRules(hosts=frozenset({"localhost"}))
    return read_head("GET", "/up/items/7", (1, 1), raw, "127.0.0.1", rules)


def back(*headers: tuple[str, str], status: int = 200) -> list[tuple[str, str]]:
    return reply_headers(Reply(status, headers), UPSTREAM, head(), CALL_ID)


def test_end_to_end_request_headers_pass_in_order_and_as_spelt() -> None:
    given = (("ACCEPT", "a"), ("x-b", "1"), ("X-B", "2"), ("Authorization", "Bearer a"))
    assert forward_headers(head(*given), UPSTREAM) == given


def test_b12_the_agents_credential_gives_way_to_the_configured_one() -> None:
    given = (("authorization", "Bearer agent"), ("X-Api-Key", "agent"), ("Accept", "a"))
    own = upstream_of(1, auth=Auth(header_name="Authorization", header_value=Secret("Bearer s")))
    assert forward_headers(head(*given), own) == given[1:]
    key = upstream_of(1, auth=Auth(header_name="x-api-key", header_value=Secret("s")))
    assert forward_headers(head(*given), key) == (given[2],), "a bearer there is for the sidecar"
    plain = forward_headers(head(*given), upstream_of(1))
    assert plain == given, "where the sidecar sends none, both are the upstream's"


def test_b12_a_credential_with_an_underscore_is_beside_no_other_spelling() -> None:
    """To CGI and WSGI both are API_KEY; with underscores nothing comes in."""
    key = upstream_of(1, auth=Auth(header_name="Api_Key", header_value=Secret("s")))
    assert forward_headers(head(("API-Key", "agent"), ("Accept", "a")), key) == (("Accept", "a"),)
    with pytest.raises(Refused, match="underscore"):
        head(("api_key", "agent"))


def test_b11_headers_named_in_connection_do_not_pass() -> None:
    given = (("Connection", "X-Hop , close"), ("x-hop", "1"), ("X-Stays", "1"))
    assert forward_headers(head(*given), UPSTREAM) == (("X-Stays", "1"),)


def test_reply_headers_pass_with_the_call_id() -> None:
    given = (("Content-Type", "a"), ("X-Accel-Buffering", "no"), ("Content-Length", "3"))
    assert back(*given) == [*given, ("Aegis-Call-Id", CALL_ID)]


def test_b11_hop_by_hop_reply_headers_and_our_own_do_not_pass() -> None:
    names = ("Connection", "Keep-Alive", "Transfer-Encoding", "Trailer", "Upgrade", "TE")
    names += ("Proxy-Authenticate", "Aegis-Call-Id", "aegis-anything")
    assert back(*[(name, "x") for name in names]) == [("Aegis-Call-Id", CALL_ID)]
    assert back(("Connection", "close, X-Hop"), ("X-HOP", "1")) == [("Aegis-Call-Id", CALL_ID)]


def test_b22_redirects_lead_back_or_are_refused() -> None:
    assert back(("Location", "/v4/items/8"), status=302)[0] == ("Location", "/up/items/8")
    assert back(("location", "8"), status=307)[0] == ("location", "/up/items/8")
    with pytest.raises(Refused) as caught:
        back(("Location", "http://169.254.169.254/"), status=302)
    assert caught.value.code == "redirect_refused"


def test_b22_a_name_of_something_made_is_no_redirect() -> None:
    public = ("Location", "https://public.acme.io/v4/items/8")
    assert back(public, status=201)[0] == public
    assert back(("Location", "/v4/items/8"), status=201)[0] == ("Location", "/up/items/8")


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_place_that_was_a_whole_url_is_one_for_who_goes_on_there_by_himself(status: int) -> None:
    """Google's clients send an upload there, those of Azure join a path to their base URL."""
    for own in ("http://127.0.0.1:3001/v4/up?id=%2F", "HTTP://127.0.0.1:3001/v4/up?id=%2F"):
        seen = back(("Location", own), status=status)[0]
        assert seen == ("Location", "http://localhost/up/up?id=%2F")
        assert back(("Location", own), status=307)[0] == ("Location", "/up/up?id=%2F")
    away = ("Location", "http://127.0.0.1:3001/other/up")
    assert back(away, status=status)[0] == away


@pytest.mark.parametrize(
    "name",
    [
        "Operation-Location",
        "azure-asyncoperation",
        "X-Goog-Upload-URL",
        "X-Goog-Upload-Control-URL",
    ],
)
def test_b22_where_vendors_clients_go_on_leads_through_the_sidecar(name: str) -> None:
    own = "http://127.0.0.1:3001/v4/ops/1?x=%C3%A9"
    assert back((name, own), status=202)[0] == (name, "http://localhost/up/ops/1?x=%C3%A9")
    for other in (
        "https://elsewhere.example/v4/ops/1", "http://127.0.0.1:3001/v4/../ops", "/v4/ops/1",
        "http://127.0.0.1:3001/ops/1", "http://a@127.0.0.1:3001/v4/ops/1", "http://[x/v4", "", "7",
    ):  # fmt: skip
        assert back((name, other))[0] == (name, other)
    hidden = upstream_of(
        3001, path="/v4", query=(QueryPart(name="key", value=Secret("s"), is_secret=True),)
    )
    assert len(reply_headers(Reply(202, ((name, own),)), hidden, head(), CALL_ID)) == 1


def test_content_location_leads_back_or_is_left_out() -> None:
    assert back(("Content-Location", "/v4/items/7.json"))[0] == (
        "Content-Location",
        "/up/items/7.json",
    )
    assert back(("Content-Location", "https://elsewhere.example/x")) == [("Aegis-Call-Id", CALL_ID)]


def test_b23_cookies_are_bound_to_their_upstream() -> None:
    assert back(("Set-Cookie", "s=1; Path=/; Domain=acme.io"))[0] == (
        "Set-Cookie",
        "s=1; Path=/up",
    )


@pytest.mark.parametrize("name", ["Proxy-Authorization", "proxy-authorizatn", "PROXY-AUTH-X"])
def test_b11_what_begins_like_a_proxys_credentials_does_not_pass(name: str) -> None:
    given = ((name, "Basic x"), ("Proxy-Status", "1"), ("X-Stays", "1"))
    assert forward_headers(head(*given), UPSTREAM) == given[1:]
