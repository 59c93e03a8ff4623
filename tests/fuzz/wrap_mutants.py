"""The ways to spoil a line of JSON-RPC, so that one reader may take it for something else.

All chance comes from one Random, so that a seed gives the same lines again.
Must not know: what the sidecar should say to any of it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

DANGER = {"name": "danger", "arguments": {}}
HIDDEN = b'{"jsonrpc":"2.0","id":"h","method":"tools/call","params":{"name":"danger"}}'

#: Bytes that end a line, a text or a document for some reader.
SPLITTERS = [
    b"\r", b"\n", b"\r\n", b"\x00", b"\x0b", b"\x0c", b"\x1c", b"\x1e", b"\xc2\x85",
    b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xef\xbb\xbf", b'"', b"\\", b"{", b"}", b"[", b"]", b",",
    b":", b" ", b"\t", b"//", b"\xff", b"\\u0000", b"\\ud800", b"\\u000d", b"NaN", b"1e999",
]  # fmt: skip


def seeds() -> list[dict[str, Any]]:
    """Sound messages; what calls `danger` is one that the rules refuse."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("ping", {}),
        ("tools/list", {"cursor": "a"}),
        ("tools/list", {"_meta": meta}),
        ("tools/call", {"name": "echo", "arguments": {"a": [1, {"b": "c"}], "d": "größe"}}),
        ("tools/call", {"name": "echo", "arguments": {}, "_meta": meta}),
        ("tools/call", {"name": "echo"}),
        ("tools/call", DANGER),
        ("resources/read", {"uri": "file:///etc/passwd"}),
        ("prompts/get", {"name": "x", "arguments": {"a": "b"}}),
    ]
    found: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 0, "method": method, "params": params} for method, params in calls
    ]
    progress = {"progressToken": 1, "progress": 2}
    found.append({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
    found.append({"jsonrpc": "2.0", "id": "s", "result": {"roots": []}})
    found.append({"jsonrpc": "2.0", "id": "s", "error": {"code": 1, "message": "no"}})
    return found


class Mutation:
    """Makes spoilt lines, each with an id of its own where it still has one."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self._seeds = seeds()

    def line(self, number: int) -> bytes:
        """One or a few lines, as they are to be written."""
        chance = self.chance
        message = json.loads(json.dumps(chance.choice(self._seeds)))
        if "method" in message and "id" in message:
            message["id"] = chance.choice((number, f"n{number}"))
        text = json.dumps(message, ensure_ascii=chance.random() < 0.5).encode()
        if chance.random() < 0.4:
            text = text.replace(b", ", b",").replace(b": ", b":")
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            text = chance.choice(MUTATORS)(chance, text)
        return text + chance.choice((b"\n", b"\n", b"\n", b"\r\n"))


def split(chance: random.Random, text: bytes) -> bytes:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(SPLITTERS) + text[at:]


def hide(chance: random.Random, text: bytes) -> bytes:
    """A whole call between two things that may end a line."""
    end = chance.choice(SPLITTERS[:12])
    at = chance.choice([index for index, one in enumerate(text) if one in b":,{}"] or [0]) + 1
    if b"{}" in text and chance.random() < 0.5:  # among arguments that nobody looks at
        end = chance.choice((b"\r", b"\r\t", end))  # JSON takes these for blanks
        return text.replace(b"{}", b'{"_x":' + end + HIDDEN + end + b"}", 1)
    if chance.random() < 0.5 and text.endswith(b"}}"):
        return text[:-2] + b',"_x":' + end + HIDDEN + end + b"}}"
    if chance.random() < 0.5:
        return b'{"jsonrpc":"2.0","id":"o","method":"ping","params":' + end + HIDDEN + end + b"}"
    return text[:at] + end + HIDDEN + end + text[at:]


def twice(chance: random.Random, text: bytes) -> bytes:
    """A member once more, with what the rules refuse."""
    member = chance.choice(
        (b'"method":"tools/call"', b'"params":{"name":"danger"}', b'"name":"danger"', b'"id":7',
         b'"n\\u0061me":"danger"', b'"meth\\u006fd":"tools/call"', b'"Name":"danger"')
    )  # fmt: skip
    places = [index for index, one in enumerate(text) if one in b"{,"]
    at = chance.choice(places) + 1 if places else 0
    return text[:at] + member + b"," + text[at:]


def batch(chance: random.Random, text: bytes) -> bytes:
    return chance.choice((b"[%b]", b"[%b,%b]", b" \t[%b]", b"%b%b", b"%b %b", b"[]")).replace(
        b"%b", chance.choice((text, HIDDEN))
    )


def flip(chance: random.Random, text: bytes) -> bytes:
    if not text:
        return text
    at = chance.randrange(len(text))
    return text[:at] + bytes([text[at] ^ (1 << chance.randrange(8))]) + text[at + 1 :]


def cut(chance: random.Random, text: bytes) -> bytes:
    at, to = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
    return text[:at] + text[to:]


def again(chance: random.Random, text: bytes) -> bytes:
    at, to = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
    return text[:to] + text[at:to] + text[to:]


def case(chance: random.Random, text: bytes) -> bytes:
    word = chance.choice((b"method", b"params", b"name", b"tools/call", b"echo", b"id", b"jsonrpc"))
    return text.replace(word, chance.choice((word.upper(), word.title(), word + b" ")), 1)


def identity(chance: random.Random, text: bytes) -> bytes:
    value = chance.choice((b"null", b"1.5", b"true", b"{}", b'""', b"-0", b"1e2", b"9" * 20))
    head, found, rest = text.partition(b'"id":')
    return head + found + value + b"," + rest.partition(b",")[2] if found else text


def rename(chance: random.Random, text: bytes) -> bytes:
    name = chance.choice((b"danger", b"echo\\u200b", b"echo ", b"ECHO", b"unknown", b"mcp:x", b""))
    return text.replace(b"echo", name, 1)


def deep(chance: random.Random, text: bytes) -> bytes:
    count = chance.choice((5, 70, 3000))
    return text.replace(b"{}", b'{"a":' + b"[" * count + b"]" * count + b"}", 1)


MUTATORS: list[Callable[[random.Random, bytes], bytes]] = [
    split, split, hide, hide, twice, twice, batch, flip, flip, cut, again, case, identity, rename,
    deep,
]  # fmt: skip
