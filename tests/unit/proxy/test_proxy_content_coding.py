"""Compressed bodies, where an upstream allows them: judged and sent plain, never a byte more."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest
from proxy_whole_setup import receipts, whole
from proxy_wire_setup import OK, answering

from sidecar.errors import Refused
from sidecar.proxy.content_coding import FREE_BYTES, RATIO_MAX, decoded
from sidecar.proxy.head import HeadRules, RequestHead, read_head

MIB = 1 << 20
RULES = HeadRules(hosts=frozenset({"localhost"}), decode={"up": ("gzip", "deflate")})
POLICIES = {
    "tools.yaml": "catalogue: api\ntools: {any: POST /any}\n",
    "rules.yaml": (
        "policy: all\nrules:\n  - {id: all, effect: allow, tools: '*'}\n"
        "  - {id: no-bad, effect: deny, tools: api/any, when: 'args.?a.orValue(0) == 666'}\n"
    ),
}


def head(coding: str, upstream: str = "up", **more: str) -> RequestHead:
    lines = {"Host": "localhost", "Content-Encoding": coding, **more}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in lines.items()]
    return read_head("POST", f"/{upstream}/x", (1, 1), raw, "127.0.0.1", RULES)


def plain(coding: str, body: bytes, limit_bytes: int = MIB) -> bytes:
    return decoded(head(coding), body, limit_bytes)[1]


def code(coding: str, body: bytes, limit_bytes: int = MIB) -> str:
    with pytest.raises(Refused) as refused:
        plain(coding, body, limit_bytes)
    return refused.value.code


TEXT = json.dumps({"a": 1, "b": "text " * 20}).encode()


def test_b13_a_whole_stream_of_an_allowed_coding_is_read() -> None:
    for name in ("gzip", "GZIP", " gzip "):
        assert plain(name, gzip.compress(TEXT)) == TEXT
    assert plain("deflate", zlib.compress(TEXT)) == TEXT
    assert plain("identity", TEXT) == TEXT
    assert plain("gzip", gzip.compress(b"")) == b""


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "compress", "x-gzip", "gzip, gzip", "gzip,deflate", "identity, gzip",
               "", "gzip;q=1"],
)  # fmt: skip
def test_b13_stacked_and_unknown_codings_stay_refused(coding: str) -> None:
    with pytest.raises(Refused) as refused:
        head(coding)
    assert refused.value.code == "unsupported_encoding"


def test_b13_only_the_upstream_that_says_so_decodes() -> None:
    with pytest.raises(Refused) as refused:
        head("gzip", "other")
    assert refused.value.code == "unsupported_encoding"


SOUND = gzip.compress(TEXT)
CORRUPT = {
    "nothing": b"",
    "cut short": SOUND[:-1],
    "its head only": SOUND[:10],
    "a byte behind it": SOUND + b"x",
    "a zero behind it": SOUND + b"\0",
    "two members": SOUND + SOUND,
    "a wrong sum": SOUND[:-8] + b"\0\0\0\0" + SOUND[-4:],
    "a wrong length": SOUND[:-4] + b"\0\0\0\0",
    "plain text": TEXT,
    "the other coding": zlib.compress(TEXT),
    "no wrapping": zlib.compress(TEXT)[2:-4],
}


@pytest.mark.parametrize("case", CORRUPT)
def test_b13_anything_else_is_corrupt(case: str) -> None:
    assert code("gzip", CORRUPT[case]) == "corrupt_encoding"


def test_b13_deflate_is_the_wrapped_form_and_a_dictionary_is_none() -> None:
    assert code("deflate", zlib.compress(TEXT)[2:-4]) == "corrupt_encoding"
    packer = zlib.compressobj(zdict=b"text")
    assert code("deflate", packer.compress(TEXT) + packer.flush()) == "corrupt_encoding"


def test_b13_no_byte_flipped_is_an_error_of_ours() -> None:
    chance = random.Random(13)
    for _ in range(3000):
        body = bytearray(SOUND)
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        try:
            assert plain("gzip", bytes(body)) == TEXT  # of its name or time nothing is used
        except Refused as refused:
            assert refused.code in ("corrupt_encoding", "body_too_large")


def test_b14_a_bomb_costs_what_the_limit_says() -> None:
    bomb = gzip.compress(bytes(50 * MIB), 9)
    tracemalloc.start()
    assert code("gzip", bomb) == "body_too_large"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MIB
    # However large a body may be: no byte of it becomes more than twenty.
    assert code("gzip", bomb, 64 * MIB) == "body_too_large"
    free = gzip.compress(bytes(FREE_BYTES))
    assert len(plain("gzip", free)) == FREE_BYTES > RATIO_MAX * len(free)
    assert code("gzip", gzip.compress(bytes(FREE_BYTES + 1))) == "body_too_large"
    noise = random.Random(1).randbytes(MIB)
    assert plain("gzip", gzip.compress(noise), MIB) == noise
    assert code("gzip", gzip.compress(noise), MIB - 1) == "body_too_large"


def test_b13_headers_of_the_bytes_as_they_came_do_not_go_on() -> None:
    came = head("gzip", Content_Length="9", Digest="sha-256=x", Content_Digest="y", X_Note="kept")
    made, _ = decoded(came, SOUND, MIB)
    assert [name for name, _ in made.headers] == ["Host", "X-Note"]
    assert set(made.first) == {"host", "x-note"}


async def test_b13_b14_what_is_judged_and_sent_is_the_plain_body(tmp_path: Path) -> None:
    media = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with whole(tmp_path, answering(OK), POLICIES, api=", decode: [gzip]") as proxy:
        answer = await proxy.ask("POST", "/api/any", SOUND, media)
        assert answer.status == 200
        arrived = proxy.arrived
        assert arrived.endswith(b"\r\n\r\n" + TEXT)
        assert b"content-encoding" not in arrived.lower()
        assert arrived.lower().count(b"content-length: %d\r\n" % len(TEXT)) == 1
        for body, status, said in (
            (gzip.compress(b'{"a": 666}'), 403, "policy_deny"),
            (gzip.compress(b'{"a": 1, "a": 2}'), 400, "invalid_json"),
            (SOUND + b"x", 400, "corrupt_encoding"),
            (gzip.compress(bytes(50 * MIB)), 413, "body_too_large"),
        ):
            answer = await proxy.ask("POST", "/api/any", body, media)
            assert (answer.status, answer.json["code"]) == (status, said)
        deflated = {**media, "Content-Encoding": "deflate"}
        answer = await proxy.ask("POST", "/api/any", zlib.compress(TEXT), deflated)
        assert answer.status == 415
        assert proxy.arrived == arrived, "none of these went on"
    found = receipts(tmp_path)
    assert [one["kind"] for one in found] == ["intent", "outcome", *["refusal"] * 4]
    assert json.loads(found[0]["arguments"]) == json.loads(TEXT)
