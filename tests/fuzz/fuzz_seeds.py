"""Requests before they are bytes, and the seeds of tests/cases/fuzz/seeds.json.

Knows: how a case of the file becomes a request, how a request is put into bytes.
Must not know: mutators, what the sidecar should say to any of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CASES = Path(__file__).resolve().parents[1] / "cases" / "fuzz" / "seeds.json"
PLACE = "{mark}"


@dataclass
class Draft:
    """A request before it is bytes; `raw`, when given, is all there is to it."""

    name: str = ""
    expect: str = "any"
    method: bytes = b"GET"
    target: bytes = b"/"
    version: bytes = b"HTTP/1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes | None = None
    is_framed: bool = False  # the framing was chosen by a mutator and stays as it is

    def render(self, mark: str) -> bytes:
        if self.raw is not None:
            return self.raw.replace(PLACE.encode(), mark.encode())
        body = self.body.replace(PLACE.encode(), mark.encode())
        headers = list(self.headers)
        if not self.is_framed and (body or self.method in (b"POST", b"PUT", b"PATCH")):
            headers.append((b"Content-Length: ", str(len(body)).encode()))
        lines = b"".join(name + value + b"\r\n" for name, value in headers)
        head = self.method + b" " + self.target + b" " + self.version + b"\r\n" + lines + b"\r\n"
        return head.replace(PLACE.encode(), mark.encode()) + body


@dataclass
class Cases:
    """What seeds.json holds."""

    seeds: list[Draft]
    words: dict[str, list[str]]


def load_cases() -> Cases:
    document = json.loads(CASES.read_text())
    return Cases([_draft(case) for case in document["seeds"]], document["words"])


def _draft(case: dict[str, Any]) -> Draft:
    draft = Draft(f"{case['case']} {case['name']}", case.get("expect", "any"))
    if "raw" in case:
        draft.raw = case["raw"].encode("latin-1")
        return draft
    body = case.get("json", case.get("text"))
    if "hex" in case:
        draft.body = bytes.fromhex(case["hex"])
    elif "pieces" in case:
        draft.body = "".join(text * times for text, times in case["pieces"]).encode()
    elif body is not None:
        draft.body = (body if "text" in case else json.dumps(body)).encode("utf-8")
    draft.method = case.get("method", "POST" if draft.body else "GET").encode()
    draft.target = case["target"].encode("latin-1")
    draft.version = case.get("version", "HTTP/1.1").encode()
    automatic = [("Host", "localhost"), ("Connection", "close"), ("X-Mark", PLACE)]
    if draft.body:
        automatic.append(("Content-Type", "application/json"))
    without = case.get("without", [])
    for name, value in automatic:
        if name not in without:
            draft.headers.append((f"{name}: ".encode(), value.encode()))
    for name, value in case.get("headers", []):
        draft.headers.append((f"{name}: ".encode("latin-1"), value.encode("latin-1")))
    draft.is_framed = "framed" in case
    return draft
