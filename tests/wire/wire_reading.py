"""What one upstream parser read of a request, and what it must have in common with the decision.

Knows: which values of a request stand in the record of a decision, and in which form.
Must not know: how any parser works, how requests reach it, which calls are allowed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fuzz_check import route_of
from fuzz_forms import FORM_DATA, read_form
from fuzz_ledger import Recorded
from fuzz_reader import Message

FORM: Final = "application/x-www-form-urlencoded"
MASK: Final = "***"
LIST_ARGUMENTS: Final = ("tags",)


class _Nothing:
    """Stands for what a parser does not read, or could not."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = _Nothing()


@dataclass
class Reading:
    """One request as `parser` read it; NOTHING (or None) for what it does not tell.

    `path` and `query` are decoded by the parser itself, `json` by its own JSON reader, `form` by
    its own reader of forms. `probes` are single values it was asked for: {"$.mark": "text"}.
    """

    parser: str
    method: str
    target: str
    headers: list[tuple[str, bytes]]
    body: bytes
    path: str | None = None
    query: list[tuple[str, str]] | None = None
    form: list[tuple[str, str]] | None = None
    json: Any = NOTHING
    probes: dict[str, str] = field(default_factory=dict)
    keeps_order: bool = True

    def content_type(self) -> str:
        found = [value for name, value in self.headers if name == "content-type"]
        return found[0].decode("latin-1") if found else ""

    def media(self) -> str:
        return self.content_type().partition(";")[0].strip().lower()

    def is_json(self) -> bool:
        media = self.media()
        return media == "application/json" or media.endswith("+json")


def differs_from_bytes(reading: Reading, message: Message) -> list[str]:
    """Where a parser read something else than stands in the bytes that were sent to it."""
    found = []
    if reading.method != message.method:
        found.append(f"method {reading.method!r} for {message.method!r}")
    if reading.target != message.target:
        found.append(f"target {reading.target!r} for {message.target!r}")
    if reading.body != message.body:
        found.append(f"body {reading.body[:200]!r} for {message.body[:200]!r}")
    read, sent = reading.headers, message.headers
    if not reading.keeps_order:
        framing = ("content-length", "transfer-encoding", "connection")
        read = sorted(pair for pair in read if pair[0] not in framing)
        sent = sorted(pair for pair in sent if pair[0] not in framing)
    if read != sent:
        odd = [pair for pair in [*read, *sent] if read.count(pair) != sent.count(pair)]
        found.append(f"headers differ in {(odd or ['their order'])[:4]!r}")
    return [f"{reading.parser} read {what}" for what in found]


def differs_from_decision(reading: Reading, intent: Recorded) -> list[str]:
    """Where a parser read something else than the decision was made on."""
    digest = hmac.new(intent.salt, reading.body, hashlib.sha256).hexdigest()
    found = [] if digest == intent.digest else ["another body than the receipt commits to"]
    if reading.method != intent.facts["method"]:
        found.append(f"method {reading.method!r} for {intent.facts['method']!r}")
    if intent.upstream == "up":
        found += _differs_rest(reading, intent)
    else:
        found += _differs_mcp(reading, intent)
    return [f"{reading.parser} read {what}" for what in found]


# -- REST ------------------------------------------------------------------------------------


def _differs_rest(reading: Reading, intent: Recorded) -> list[str]:
    found = []
    path_values: dict[str, str] = {}
    if reading.path is not None:
        if reading.path != intent.path:
            found.append(f"path {reading.path!r} for {intent.path!r}")
        segments = [segment for segment in reading.path.split("/") if segment]
        route = route_of(reading.method, segments)
        if f"up/{route}" != intent.tool:
            found.append(f"operation {route!r} for {intent.tool!r}")
        if route == "read":
            path_values = {"id": segments[-1]}
        elif route == "files":
            path_values = {"path": "/".join(segments[1:])}
    if reading.query is not None:
        names = list(dict.fromkeys(name for name, _ in reading.query))
        if names != intent.facts.get("query", []):
            found.append(f"query names {names!r} for {intent.facts.get('query')!r}")
    for name, text in reading.probes.items() if reading.is_json() else ():
        if text and not _probe_agrees(intent.arguments, name.removeprefix("$."), text):
            found.append(f"{name} as {text!r}, recorded {intent.arguments!r}")
    return found + _differs_arguments(reading, intent.arguments, path_values)


def _differs_arguments(
    reading: Reading, recorded: dict[str, Any], path_values: dict[str, str]
) -> list[str]:
    if reading.path is None or reading.query is None or reading.form is None:
        return []
    places: list[dict[str, Any]] = [
        {name: [text] for name, text in path_values.items()},
        _gathered(reading.query),
    ]
    members: dict[str, Any] = {}
    if reading.body and reading.is_json():
        if reading.json is NOTHING:
            return ["no JSON where the decision did"]
        members = reading.json if type(reading.json) is dict else {"body": reading.json}
    elif reading.body and reading.media() == FORM:
        places.append(_gathered(reading.form))
    elif reading.body and reading.media() == FORM_DATA:
        # By the parser's own reader, and by one that no parser here has.
        places.append(_gathered(reading.form))
        fields, members = read_form(reading.content_type(), reading.body)
        places.append(_gathered(fields))
    elif reading.body:
        digest = hashlib.sha256(reading.body).hexdigest()
        members = {"body_sha256": digest, "body_size": len(reading.body)}
    found = []
    names = set(members).union(*places)
    if names != set(recorded):
        found.append(f"arguments {sorted(names)!r} for {sorted(recorded)!r}")
    for name, value in members.items():
        if not same(recorded.get(name, NOTHING), value):
            found.append(f"{name} as {value!r} for {recorded.get(name)!r}")
    for place in places:
        for name, texts in place.items():
            if not _says(recorded.get(name, NOTHING), texts, name in LIST_ARGUMENTS):
                found.append(f"{name} as {texts!r} for {recorded.get(name)!r}")
    return found


def _gathered(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    gathered: dict[str, list[str]] = {}
    for name, text in pairs:
        gathered.setdefault(name, []).append(text)
    return gathered


def _says(recorded: Any, texts: list[str], is_list: bool) -> bool:
    if recorded == MASK:
        return True
    if is_list and type(recorded) is list:
        return recorded == texts
    return len(texts) == 1 and _says_text(recorded, texts[0])


def _says_text(recorded: Any, text: str) -> bool:
    if type(recorded) is dict and recorded.keys() >= {"sha256", "size", "filename"}:
        return text == "file:{filename}:{size}:{sha256}".format_map(recorded)
    if type(recorded) in (dict, list):  # a part of a form that is JSON
        read = read_part(text)
        return read is not NOTHING and same(recorded, read)
    if type(recorded) is str:
        return recorded == text
    if type(recorded) is bool:
        return text == str(recorded).lower()
    if type(recorded) is int:
        return text.lstrip("-").isdecimal() and int(text) == recorded
    return type(recorded) is float and _number(text) == recorded


def _number(text: str) -> float | None:
    """A text as a number; None if it is none: intents of other requests are compared too."""
    try:
        return float(text)
    except ValueError:
        return None


def read_part(text: str) -> Any:
    """A text as JSON; NOTHING if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return NOTHING


def _probe_agrees(arguments: dict[str, Any], dotted: str, text: str) -> bool:
    value: Any = arguments
    for name in dotted.split("."):
        if type(value) is not dict or name not in value:
            return False
        value = value[name]
    if type(value) in (int, float):  # HAProxy prints numbers with six digits, and large ones as inf
        is_number = re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?|-?inf", text) is not None
        return is_number and (abs(value) > 1e300 or math.isclose(float(text), value, rel_tol=1e-5))
    return value == MASK or type(value) in (dict, list) or _says_text(value, text)


# -- MCP -------------------------------------------------------------------------------------


def _differs_mcp(reading: Reading, intent: Recorded) -> list[str]:
    if reading.method != "POST":
        return []
    found = []
    for name, text in reading.probes.items():
        if text and not _mcp_probe_agrees(intent, name, text):
            found.append(f"{name} as {text!r} for {intent.tool} {intent.arguments!r}")
    document = reading.json
    if document is NOTHING:
        return found if reading.form is None else [*found, "no JSON where the decision did"]
    if type(document) is not dict:
        return [*found, f"JSON that is no object: {document!r:.200}"]
    method, params = document.get("method"), document.get("params", {})
    if method is None:  # a client's answer to a request of the server
        answer = {name: document[name] for name in ("result", "error") if name in document}
        return found if intent.action == "response" or answer else [*found, "no method"]
    if method != intent.action:
        found.append(f"method {method!r} for {intent.action!r}")
    if method != "tools/call":
        if intent.tool != f"tools/mcp:{method}":
            found.append(f"method {method!r} for {intent.tool!r}")
        return found
    name, arguments = params.get("name"), params.get("arguments", {})
    if intent.tool != f"tools/{name}" and intent.facts.get("called") != name:
        found.append(f"tool {name!r} for {intent.tool!r}")
    if not same(intent.arguments, arguments):
        found.append(f"arguments {arguments!r} for {intent.arguments!r}")
    return found


def _mcp_probe_agrees(intent: Recorded, name: str, text: str) -> bool:
    if name == "$.method":
        return text == intent.action
    if intent.action != "tools/call":
        return True
    if name == "$.params.name":
        return intent.tool == f"tools/{text}" or intent.facts.get("called") == text
    prefix = "$.params.arguments."
    if name.startswith(prefix):
        return _probe_agrees(intent.arguments, name.removeprefix(prefix), text)
    return True


def same(recorded: Any, read: Any) -> bool:
    """Whether two JSON values are one: numbers by value, since readers differ in 1 and 1.0."""
    if recorded == MASK:
        return True
    if type(recorded) is bool or type(read) is bool:
        return recorded is read
    if type(recorded) in (int, float) and type(read) in (int, float):
        return bool(recorded == read)
    if type(recorded) is not type(read):
        return False
    if type(recorded) is dict:
        return recorded.keys() == read.keys() and all(same(recorded[k], read[k]) for k in recorded)
    if type(recorded) is list:
        return len(recorded) == len(read) and all(map(same, recorded, read))
    return bool(recorded == read)
