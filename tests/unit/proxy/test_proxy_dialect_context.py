"""What all dialects read from a head: headers rules may see, run id, trace id; and Content-Type."""

from __future__ import annotations

import pytest
from proxy_dialect_setup import head

from sidecar.errors import Refused
from sidecar.proxy.dialects.content_type import media_type
from sidecar.proxy.dialects.context import PublicHeaders, http_facts, run_id, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-Api-Key",
        "Api-Key",
        "X-Auth-Token",
        "X-Goog-Api-Key",
        "Ocp-Apim-Subscription-Key-Secret",
        "X-Amz-Security-Token",
        "X-Vault-Token",
        "Mcp-Session-Id",
        "X-CSRF-Token",
        "Aegis-Run",
        "Aegis-Anything",
    ],
)
def test_g5_credentials_and_own_headers_are_not_for_rules(name: str) -> None:
    facts = http_facts(head("GET", "/shop/x", {name: "canary", "Accept": "a/b"}))
    assert name.lower() not in facts.headers
    assert facts.headers["accept"] == "a/b"
    assert "canary" not in repr(facts)


def test_rules_read_headers_by_lower_case_name_joined_when_repeated() -> None:
    headers = PublicHeaders((("Accept", "a"), ("X-Tag", "1"), ("ACCEPT", "b"), ("Author", "ana")))
    assert dict(headers) == {"accept": "a, b", "x-tag": "1", "author": "ana"}
    assert len(headers) == 3 and "Accept" not in headers
    assert headers.as_dict() is headers.as_dict()


def test_facts_of_a_request() -> None:
    facts = http_facts(head("PUT", "/shop/a%20b?x=%41", {}))
    assert (facts.method, facts.path, facts.query) == ("PUT", "/a b", "x=%41")
    assert facts.source_ip == "127.0.0.9"


@pytest.mark.parametrize("text", ["r", "run 7", "x" * 128, "a/b:c"])
def test_a_run_id_is_taken_as_it_is(text: str) -> None:
    assert run_id(head("GET", "/shop/x", {"Aegis-Run": text, "Mcp-Session-Id": "s"})) == text


@pytest.mark.parametrize("text", ["", "x" * 129, "é", "a\tb", " a"])
def test_a_run_id_that_is_no_short_printable_text_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        run_id(head("GET", "/shop/x", {"Aegis-Run": text}))
    assert caught.value.code == "malformed_request"


def test_c13_a_session_groups_calls_and_its_id_is_not_kept() -> None:
    first, again, other = (
        run_id(head("POST", "/files", {"Mcp-Session-Id": session}))
        for session in ("canary-1", "canary-1", "x" * 4000)
    )
    assert first == again != other
    for value in (first, other):
        assert value is not None and "canary" not in value and len(value) <= 128
    assert run_id(head("POST", "/files", {})) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{PARENT}-01", TRACE),
        (f"01-{TRACE}-{PARENT}-01-more", TRACE),
        (f"00-{TRACE}-{PARENT}-01-more", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT}", None),
        (f"00-{TRACE[1:]}-{PARENT}-01", None),
        ("", None),
    ],
)
def test_a_trace_id_is_that_of_a_valid_traceparent(text: str, expected: str | None) -> None:
    assert trace_id(head("GET", "/shop/x", {"Traceparent": text})) == expected


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("text/plain", ("text/plain", "", "")),
        ("TEXT/Plain ; Charset=Latin1", ("text/plain", "latin1", "")),
        ('a/b; x="; charset=utf-16"; charset="UTF-8"', ("a/b", "utf-8", "")),
        ("a/b;;x=1;", ("a/b", "", "")),
        ("Multipart/Form-Data; boundary=aB", ("multipart/form-data", "", "aB")),
        ('multipart/form-data;Boundary="a=b"; charset=utf-8',
         ("multipart/form-data", "utf-8", "a=b")),
        ('multipart/related; type="text/xml"; boundary=a', ("multipart/related", "", "a")),
    ],
)  # fmt: skip
def test_b18_media_types_are_read(value: str, read: tuple[str, str, str]) -> None:
    assert media_type(head("POST", "/shop", {"Content-Type": value})) == read


@pytest.mark.parametrize(
    "value",
    ["a", "a/", "/b", "a/b, c/d", "a/b c", "a/b; x", 'a/b; x="', "é/b",
     "multipart/form-data; boundary=a; boundary=a", "multipart/form-data; boundary*=a",
     'multipart/form-data; x="; boundary=a"; boundary=b', "multipart/form-data; xboundary=a",
     "multipart/form-data; boundary*0=a; boundary=b", "multipart/form-data; boundary=a,b"],
)  # fmt: skip
def test_b18_malformed_media_types_are_refused(value: str) -> None:
    with pytest.raises(Refused) as caught:
        media_type(head("POST", "/shop", {"Content-Type": value}))
    assert caught.value.code == "unsupported_media_type"
