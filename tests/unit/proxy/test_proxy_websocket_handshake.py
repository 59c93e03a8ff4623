"""A client's handshake is one thing and nothing else; all that comes near it is refused."""

from __future__ import annotations

import pytest

from sidecar.errors import Refused
from sidecar.proxy.head import HeadRules, RequestHead, read_head
from sidecar.proxy.websocket_handshake import accept_of, offered

RULES = HeadRules(hosts=frozenset({"localhost"}))
GOOD = {
    "Host": "localhost",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
#: What is changed, added (a list adds lines) or left out (None), and the code.
CASES: dict[str, tuple[dict[str, str | list[str] | None], str]] = {
    "control": ({}, ""),
    "names in other cases": ({"Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"}, ""),
    "subprotocols": ({"Sec-WebSocket-Protocol": ["a, b", "c"]}, ""),
    "an empty body": ({"Content-Length": "0"}, ""),
    "h2c": ({"Upgrade": "h2c"}, "upgrade_refused"),
    "two protocols": ({"Upgrade": "websocket, h2c"}, "upgrade_refused"),
    "two lines of Upgrade": ({"Upgrade": ["websocket", "websocket"]}, "upgrade_refused"),
    "a protocol with a version": ({"Upgrade": "websocket/13"}, "upgrade_refused"),
    "a body": ({"Content-Length": "5"}, "upgrade_refused"),
    "chunks": ({"Transfer-Encoding": "chunked"}, "upgrade_refused"),
    "no Connection": ({"Connection": None}, "bad_handshake"),
    "Connection without Upgrade": ({"Connection": "keep-alive"}, "bad_handshake"),
    "Connection names a header": ({"Connection": "Upgrade, X-Note"}, "bad_handshake"),
    "Connection names the key": ({"Connection": "Upgrade, Sec-WebSocket-Key"}, "ambiguous_header"),
    "HTTP2-Settings": ({"Connection": "Upgrade, HTTP2-Settings"}, "bad_handshake"),
    "version 8": ({"Sec-WebSocket-Version": "8"}, "bad_handshake"),
    "no version": ({"Sec-WebSocket-Version": None}, "bad_handshake"),
    "two versions": ({"Sec-WebSocket-Version": ["13", "13"]}, "bad_handshake"),
    "no key": ({"Sec-WebSocket-Key": None}, "bad_handshake"),
    "two keys": ({"Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ=="] * 2}, "bad_handshake"),
    "a key of 15 bytes": ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j"}, "bad_handshake"),
    "a key that is no base64": ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j!Q=="}, "bad_handshake"),
    "an answer": ({"Sec-WebSocket-Accept": "x"}, "bad_handshake"),
    "a protocol twice": ({"Sec-WebSocket-Protocol": "a, a"}, "bad_handshake"),
    "a protocol that is no token": ({"Sec-WebSocket-Protocol": "a b"}, "bad_handshake"),
    "a foreign web page": ({"Origin": "https://evil.example"}, "origin_not_allowed"),
}


def read(
    changes: dict[str, str | list[str] | None],
    method: str = "GET",
    version: tuple[int, int] = (1, 1),
) -> RequestHead:
    lines: list[tuple[bytes, bytes]] = []
    for name, value in {**GOOD, **changes}.items():
        values = [] if value is None else value if isinstance(value, list) else [value]
        lines += [(name.encode(), one.encode()) for one in values]
    return read_head(method, "/up/live", version, lines, "127.0.0.1", RULES)


@pytest.mark.parametrize("case", CASES)
def test_b17_a_handshake_is_one_thing(case: str) -> None:
    changes, code = CASES[case]
    if not code:
        assert read(changes).is_handshake
        return
    with pytest.raises(Refused) as refused:
        read(changes)
    assert refused.value.code == code


def test_b17_a_client_that_asks_for_http_2_by_itself_is_told_how_not_to() -> None:
    """Java's does with each request, and its user knows of no upgrade."""
    with pytest.raises(Refused) as refused:
        read({"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEA"})
    assert refused.value.code == "upgrade_refused"
    assert "version(HTTP_1_1)" in refused.value.reason


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
def test_b17_only_get_of_http_1_1_upgrades(method: str) -> None:
    with pytest.raises(Refused) as refused:
        read({}, method)
    assert refused.value.code == "upgrade_refused"
    with pytest.raises(Refused):
        read({}, version=(1, 0))


def test_without_upgrade_it_is_no_handshake() -> None:
    assert not read({"Upgrade": None}).is_handshake


def test_what_is_offered_to_the_upstream_has_no_extensions() -> None:
    head = read({"Sec-WebSocket-Extensions": ["permessage-deflate", "x"]})
    names = [name for name, _ in offered(head.headers)]
    assert "Sec-WebSocket-Extensions" not in names
    assert names[-2:] == ["Connection", "Upgrade"]


def test_the_accept_is_that_of_the_rfc() -> None:
    assert accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
