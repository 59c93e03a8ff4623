"""A head is well formed in one way only (B1, B2, B6 to B8, B11, B12, B16, B17, B20)."""

from __future__ import annotations

from urllib.parse import urlparse

import pytest

from sidecar.errors import Refused
from sidecar.proxy.head import HeadRules, RequestHead, read_head

RULES = HeadRules(
    hosts=frozenset({"127.0.0.1", "localhost", "::1", "proxy.acme.io"}),
    encoded_slash=frozenset({"git"}),
    path_parameters=frozenset({"maps"}),
)
HOST = (b"Host", b"127.0.0.1:8080")


def head(
    *headers: tuple[bytes, bytes],
    method: str = "POST",
    target: str = "/up/x?q=1",
    version: tuple[int, int] = (1, 1),
    rules: HeadRules = RULES,
) -> RequestHead:
    return read_head(method, target, version, (HOST, *headers), "127.0.0.1", rules)


def refused(*headers: tuple[bytes, bytes], **request: object) -> str:
    with pytest.raises(Refused) as caught:
        head(*headers, **request)  # type: ignore[arg-type]
    return caught.value.code


def without_host(*headers: tuple[bytes, bytes]) -> str:
    with pytest.raises(Refused) as caught:
        read_head("GET", "/up", (1, 1), headers, "", RULES)
    return caught.value.code


def test_a_plain_head() -> None:
    read = head((b"Accept", b"a"), (b"accept", b"b"), (b"X-Name", "\u00e9".encode()))
    assert (read.method, read.upstream, read.segments) == ("POST", "up", ("x",))
    assert (read.target, read.path, read.query) == ("/x?q=1", "/x", "q=1")
    assert read.first.get("accept") == "a"
    assert read.header_count("accept") == 2
    assert read.first.get("x-name") == "\u00e9"
    assert read.first.get("cookie") is None
    assert read.header_count("cookie") == 0
    assert read.headers[1:3] == (("Accept", "a"), ("accept", "b"))


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (3, 0)])
def test_b8_only_http_1_0_and_1_1(version: tuple[int, int]) -> None:
    assert refused(version=version) == "malformed_request"
    assert head(version=(1, 0)).version == (1, 0)


@pytest.mark.parametrize(
    "value", [b"xchunked", b"chunked, identity", b"gzip, chunked", b"Chunked "]
)
def test_b2_transfer_encoding_is_exactly_chunked(value: bytes) -> None:
    assert refused((b"Transfer-Encoding", value)) == "malformed_request"
    assert head((b"Transfer-Encoding", b"chunked"))


def test_b2_transfer_encoding_twice_or_on_http_1_0() -> None:
    chunked = (b"Transfer-Encoding", b"chunked")
    assert refused(chunked, (b"transfer-encoding", b"chunked")) == "ambiguous_header"
    assert refused(chunked, version=(1, 0)) == "malformed_request"


def test_b1_length_and_encoding_together() -> None:
    pair = ((b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked"))
    assert refused(*pair) == "malformed_request"
    assert refused((b"Content-Length", b"3"), (b"Content-Length", b"3")) == "ambiguous_header"


@pytest.mark.parametrize("method", ["get", "Post", "G T", "", "A" * 21, "GE\u0130"])
def test_methods_are_upper_case_tokens(method: str) -> None:
    assert refused(method=method) == "malformed_request"


@pytest.mark.parametrize("method", ["GET", "PROPFIND", "M-SEARCH", "QUERY", "OPTIONS"])
def test_all_methods_pass(method: str) -> None:
    assert head(method=method).method == method


def test_b17_connect_trace_and_upgrade() -> None:
    assert refused(method="CONNECT") == "connect_refused"
    assert refused(method="TRACE") == "method_not_allowed"
    for value in (b"h2c", b"websocket", b"anything"):
        assert refused((b"Upgrade", value), (b"Connection", b"Upgrade")) == "upgrade_refused"


def test_b7_host_is_there_once_and_served() -> None:
    assert without_host() == "malformed_request"
    assert without_host(HOST, HOST) == "ambiguous_header"
    for value in (b"evil.example", b"127.0.0.1.evil.example", b"xlocalhost", b"localhost.:80"):
        assert without_host((b"Host", value)) in ("misdirected_request", "malformed_request")
    for value in (b"a@localhost", b"localhost:80@evil", b"localhost:", b"localhost:x", b"", b"::1"):
        assert without_host((b"Host", value)) == "malformed_request"
    assert without_host((b"Host", b"localhost:99999")) == "malformed_request"
    assert without_host((b"Host", b"localhost, evil")) == "malformed_request"


@pytest.mark.parametrize("value", [b"localhost", b"LOCALHOST:1", b"[::1]:8080", b"proxy.acme.io"])
def test_b7_names_of_the_listener_are_served(value: bytes) -> None:
    assert read_head("GET", "/up", (1, 1), [(b"Host", value)], "", RULES)


@pytest.mark.parametrize(
    "origin", [b"null", b"http://evil.example", b"https://localhost.evil", b"", b"file://localhost"]
)
def test_a_browser_page_of_another_site_is_refused(origin: bytes) -> None:
    assert refused((b"Origin", origin)) == "origin_not_allowed"
    assert head((b"Origin", b"http://localhost:8080"))


@pytest.mark.parametrize(
    "name", [b"Authorization", b"Content-Type", b"Cookie", b"Mcp-Method", b"Aegis-Run", b"Origin"]
)
def test_b12_headers_that_must_not_stand_twice(name: bytes) -> None:
    value = b"http://localhost" if name == b"Origin" else b"x"
    assert head((name, value))
    assert refused((name, value), (name.lower(), value)) == "ambiguous_header"


def test_b12_underscores_in_names() -> None:
    assert refused((b"X_Tenant", b"a")) == "ambiguous_header"
    assert head((b"X-Tenant", b"a"))


@pytest.mark.parametrize(
    "value", [b"Authorization", b"close, X-Forwarded-For", b"keep-alive,mcp-name", b"AEGIS-Token"]
)
def test_b11_connection_names_no_end_to_end_header(value: bytes) -> None:
    assert refused((b"Connection", value)) == "ambiguous_header"


@pytest.mark.parametrize("value", [b"keep-alive", b"close, TE", b"X-Hop", b"Keep-Alive, x-hop"])
def test_b11_connection_may_name_hop_by_hop_headers(value: bytes) -> None:
    assert head((b"Connection", value))


def test_b11_a_second_connection_header_counts_too() -> None:
    pair = ((b"Connection", b"keep-alive"), (b"Connection", b"authorization"))
    assert refused(*pair) == "ambiguous_header"


@pytest.mark.parametrize("value", [b"gzip", b"gzip, gzip", b"zzz", b"identity, gzip", b"br", b""])
def test_b13_encoded_bodies_are_refused(value: bytes) -> None:
    assert refused((b"Content-Encoding", value)) == "unsupported_encoding"
    assert head((b"Content-Encoding", b"identity"))


def test_b16_unknown_expectations() -> None:
    assert refused((b"Expect", b"100-continue, x")) == "expectation_failed"
    assert head((b"Expect", b"100-Continue"))


def test_b20_too_many_headers() -> None:
    many = [(b"X-%d" % number, b"1") for number in range(63)]
    assert head(*many)
    assert refused(*many, (b"X", b"1")) == "headers_too_large"


def test_headers_are_utf_8() -> None:
    assert refused((b"X-Name", b"\xff")) == "malformed_request"


def test_b9_a_semicolon_in_the_path_needs_the_upstream_to_say_so() -> None:
    """Python's `urlparse` stands for the servers that end a segment there; so do Java's."""
    for target in ("/up/admin;x=1", "/up/a;/b", "/up/a;v=1/b?q", "/up/a/;jsessionid=7"):
        assert refused(target=target) == "ambiguous_path"
    assert urlparse("http://up/admin;x=1").path == "/admin"
    read = head(target="/up/admin%3Bx=1?q=a;b")
    assert (read.segments, read.path) == (("admin;x=1",), "/admin;x=1")
    assert urlparse(f"http://up{read.target}").path == "/admin%3Bx=1"
    read = head(target="/maps/52.5,13.4;52.6,13.5")
    assert read.segments == ("52.5,13.4;52.6,13.5",)
    assert refused(target="/maps/..;/a") == "ambiguous_path"


def test_b9_an_encoded_slash_needs_the_upstream_to_say_so() -> None:
    assert refused(target="/up/a%2Fb") == "ambiguous_path"
    read = head(target="/git/a%2Fb")
    assert (read.segments, read.target) == (("a/b",), "/a%2Fb")
