"""REST over sockets, a whole sidecar between: forms of real clients, repeated names, encodings."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp import ClientSession, FormData
from proxy_whole_setup import receipts, whole
from proxy_wire_setup import answering

OK = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
PICTURE = b"\x89PNG\r\n\x1a\n--x--\r\n" + bytes(range(256))
SHA256 = hashlib.sha256(PICTURE).hexdigest()
POLICIES = {
    "api.yaml": """catalogue: api
tools:
  send: {route: POST /send, args: {note: string, picture: object, extra: "[object]?"}}
  find: {route: GET /find, args: {tag: "[string]"}}
  any: POST /any
""",
    "p.yaml": f"""policy: p
rules:
  - id: known-pictures
    effect: allow
    tools: api/send
    when: |
      args.picture.sha256 == "{SHA256}" && args.picture.content_type == "image/png" &&
      args.picture.size < 1000 && args.picture.filename.endsWith(".png")
  - {{id: find, effect: allow, tools: api/find}}
  - {{id: no-secret-tag, effect: deny, tools: api/find, when: 'args.tag.exists(t, t == "secret")'}}
  - {{id: any, effect: allow, tools: api/any}}
""",
}


@pytest.mark.parametrize("client", ["aiohttp", "httpx"])
async def test_b18_forms_of_real_clients_are_judged_by_field_and_file(
    tmp_path: Path, client: str
) -> None:
    async def send(url: str, picture: bytes) -> int:
        if client == "aiohttp":
            form = FormData(quote_fields=False)
            form.add_field("note", "caf\u00e9")
            form.add_field("picture", picture, filename="a b.png", content_type="image/png")
            async with ClientSession() as session, session.post(url, data=form) as reply:
                return reply.status
        async with httpx2.AsyncClient() as session:
            answer = await session.post(
                url,
                data={"note": "caf\u00e9"},
                files={"picture": ("a b.png", picture, "image/png")},
            )
            return int(answer.status_code)

    async with whole(tmp_path, OK, POLICIES) as one:
        url = f"http://127.0.0.1:{one.port}/api/send"
        assert await send(url, PICTURE) == 200
        assert await send(url, PICTURE + b"!") == 403
    assert len(one.received) == 1 and PICTURE in one.arrived
    arguments = json.loads(receipts(tmp_path)[0]["arguments"])
    assert arguments == {
        "note": "caf\u00e9",
        "picture": {
            "sha256": SHA256,
            "size": len(PICTURE),
            "filename": "a b.png",
            "content_type": "image/png",
        },
    }


async def test_b18_the_very_bytes_of_a_form_are_forwarded(tmp_path: Path) -> None:
    body = (
        b"--x\r\ncontent-DISPOSITION:form-data; name=note\r\n\r\nn\r\n--x\r\n"
        b'Content-Type: image/PNG\r\nContent-Disposition: form-data; name="picture"; '
        b'filename="p.png"\r\n\r\n' + PICTURE.replace(b"--x", b"--y") + b"\r\n--x--"
    )
    media = {"Content-Type": 'Multipart/Form-Data; boundary="x"'}
    async with whole(tmp_path, OK, POLICIES) as one:
        assert (await one.ask("POST", "/api/any", body, media)).status == 200
        refused = await one.ask("POST", "/api/any", b"x" + body, media)
    head, _, arrived = one.arrived.partition(b"\r\n\r\n")
    assert arrived == body and b'Multipart/Form-Data; boundary="x"' in head
    assert (refused.status, refused.json["code"]) == (400, "invalid_form")


async def test_b10_every_value_of_a_repeated_name_is_judged(tmp_path: Path) -> None:
    """Any-of: a rule over a declared list sees each; an undeclared repetition is refused."""
    targets = {
        "/api/find?tag=a": 200,
        "/api/find?tag=a&tag=b": 200,
        "/api/find?tag=a&tag=secret": 403,
        "/api/find?tag=secret&tag=a": 403,
        "/api/find?tag=a&%74ag=s%65cret": 403,
        "/api/find?tag=a;tag=secret": 400,
        "/api/find?tag=a&other=secret": 400,
        "/api/find?tag=" + "&tag=".join(["a"] * 128): 200,
        "/api/find?tag=" + "&tag=".join(["a"] * 129): 400,
    }
    async with whole(tmp_path, OK, POLICIES) as one:
        for target, status in targets.items():
            answer = await one.ask("GET", target)
            assert answer.status == status, target
    assert one.arrived.count(b"GET /find") == list(targets.values()).count(200)
    assert b"secret" not in one.arrived and b"s%65cret" not in one.arrived


ENCODED: list[tuple[str, bytes]] = [
    ("gzip", gzip.compress(b'{"a": 1}')),
    ("gzip", b"\x1f\x8b corrupt"),
    ("gzip", gzip.compress(b'{"a": 1}') + b"trailing"),
    ("gzip, gzip", gzip.compress(gzip.compress(b'{"a": 1}'))),
    ("deflate", b'{"a": 1}'),
    ("br", b'{"a": 1}'),
    ("zstd", b'{"a": 1}'),
    ("x-unheard-of", b'{"a": 1}'),
    ("identity, gzip", b'{"a": 1}'),
    ("", b'{"a": 1}'),
]


async def test_b13_b14_encoded_bodies_are_refused_unread(tmp_path: Path) -> None:
    """No setting allows them: what is judged would not be what is sent."""
    media = {"Content-Type": "application/json"}
    async with whole(tmp_path, OK, POLICIES) as one:
        for encoding, body in [*ENCODED, ("gzip", gzip.compress(bytes(1 << 20)))]:
            answer = await one.ask(
                "POST", "/api/any", body, {**media, "Content-Encoding": encoding}
            )
            assert (answer.status, answer.json["code"]) == (415, "unsupported_encoding"), encoding
        assert one.arrived == b""
        sent: Any = {**media, "Content-Encoding": "identity"}
        assert (await one.ask("POST", "/api/any", b'{"a": 1}', sent)).status == 200
    assert one.arrived.endswith(b'{"a": 1}')
