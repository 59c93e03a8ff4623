"""A sidecar with a fault built in, to prove that the fuzz run finds it. Never part of the product.

lenient-json         bodies are read by Python's json: the last of two equal names wins
raw-path             the target is split and repaired instead of checked
lenient-framing      Transfer-Encoding and Content-Length are taken as the parser leaves them
header-disagreement  MCP headers may say anything
lenient-form         parts of a form are what stands between two boundaries
inner-words          refusals tell the parser's words
no-record            calls are forwarded without an intent
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar.cli.main import main
from sidecar.errors import Refused
from sidecar.ledger import recorder
from sidecar.proxy import head, target
from sidecar.proxy.dialects import mcp, mcp_message, multipart, reply, rest_arguments


def lenient_json() -> None:
    def parse(body: bytes, _depth: int, _values: int) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise Refused("invalid_json") from None

    mcp_message.parse = parse  # type: ignore[attr-defined]
    rest_arguments.parse = parse  # type: ignore[attr-defined]


def raw_path() -> None:
    def read_target(raw: str, _parameters_max: int) -> tuple[target.Path, str]:
        path, _, query = raw.partition("?")
        name, _, rest = path.lstrip("/").partition("/")
        decoded = posixpath.normpath("/" + unquote(rest))
        segments = tuple(segment for segment in decoded.split("/") if segment)
        return target.Path(name, segments, f"/{rest}" if rest else "", decoded, False), query

    head.read_target = read_target  # type: ignore[attr-defined]


def lenient_framing() -> None:
    head._require_framing = lambda _first, _version: None  # type: ignore[attr-defined]


def header_disagreement() -> None:
    mcp.require_agreement = lambda _head, _message: None  # type: ignore[attr-defined]


def lenient_form() -> None:
    def read_parts(body: bytes, boundary: str, _parts_max: int) -> list[multipart.Part]:
        parts = []
        for piece in body.split(b"\r\n--" + boundary.encode())[:-1]:
            name = re.search(rb'name="?([^";\r\n]*)', piece)
            text = piece.partition(b"\r\n\r\n")[2]
            if name is not None:
                parts.append(multipart.Part(name[1].decode(errors="replace"), None, "", text))
        return parts

    rest_arguments.read_parts = read_parts  # type: ignore[attr-defined]


def inner_words() -> None:
    facts = reply.refusal_facts

    def telling(refused: Refused, *rest: Any) -> dict[str, Any]:
        return {**facts(refused, *rest), "cause": refused.detail}

    reply.refusal_facts = telling  # type: ignore[attr-defined]
    mcp.refusal_facts = telling  # type: ignore[attr-defined]


def no_record() -> None:
    count = 0
    record = recorder.Recorder.intent

    async def skipping(self: Any, principal: Any, call: Any, decision: Any, *rest: Any) -> Any:
        nonlocal count
        count += 1
        if count % 20:
            return await record(self, principal, call, decision, *rest)
        slot = self._queue.reserve()
        return recorder.Intent(principal.tenant, principal.agent, call.call_id, 1, "", slot)

    recorder.Recorder.intent = skipping  # type: ignore[method-assign]


FAULTS = {
    "lenient-json": lenient_json,
    "raw-path": raw_path,
    "lenient-framing": lenient_framing,
    "header-disagreement": header_disagreement,
    "lenient-form": lenient_form,
    "inner-words": inner_words,
    "no-record": no_record,
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    sys.exit(main(sys.argv[1:]))
