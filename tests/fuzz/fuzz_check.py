"""What must hold of every answer, and of everything that reached an upstream.

Knows: the tools and rules of the run (as its own few lines, apart from the policy engine), how
lenient servers read paths and JSON.
Must not know: how the sidecar comes to its decisions, what is on record.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from fuzz_client import Answer, Heard, Shot
from fuzz_forms import FORM_DATA, read_form
from fuzz_reader import Message, Unclear, strict_json
from fuzz_upstream import MAGIC, Arrival

CATALOGUES = {
    "up.yaml": """\
catalogue: up
tools:
  read: "GET /items/{id}"
  search: {route: GET /search, args: {q: string, tags: "[string]?", mark: string?}}
  files: "GET /files/{path...}"
  write: {route: POST /items, args: {mark: string, size: int, note: string?, tags: "[string]?"}}
  free: POST /free
  form: POST /form
  never: POST /never
  erase: "DELETE /items/{id}"
""",
    "tools.yaml": """\
catalogue: tools
tools:
  echo: {mutates: false}
  add: {mutates: false, args: {a: int, b: int, mark: string}}
  never: {}
""",
    "policy.yaml": """\
policy: fuzz
rules:
  - {id: reads, effect: allow, tools: [up/read, up/search, up/files]}
  - {id: small, effect: allow, tools: up/write, when: args.size <= 100}
  - {id: free, effect: allow, tools: [up/free, up/form]}
  - {id: tools, effect: allow, tools: [tools/echo, tools/add]}
  - {id: secret-search, effect: deny, tools: up/search, when: args.q == "secret"}
  - {id: secret-files, effect: deny, tools: up/files, when: 'args.path.startsWith("secret")'}
  - {id: danger, effect: deny, tools: [up/free, up/form], when: has(args.danger)}
  - {id: never, effect: deny, tools: [up/never, up/erase, tools/never]}
""",
}
SIZE_MAX = 100
MCP_TOOLS = ("echo", "add")
MCP_PROTOCOL = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "logging/setLevel",
        "subscriptions/listen",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
#: Words of parsers, libraries and Python itself, which no peer may ever read.
INNER = re.compile(
    rb"Traceback|File \"|\.py\b|orjson|aiohttp|JSONDecode|unexpected character|Expecting |"
    rb"codec can|llhttp|yarl|object at 0x|sqlite|line \d+ column|Exception|<class|data_received|"
    rb"Invalid header"
)
#: Headers the sidecar never lets through to an upstream.
NEVER_FORWARDED = re.compile(
    r"connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|forwarded|"
    r"proxy-connection|proxy-auth[a-z-]*|"
    r"x-forwarded-.*|aegis-.*|x-http-method-override|x-original-url|x-rewrite-url|.*_.*"
)
ONCE = ("host", "content-length", "content-type", "authorization", "mcp-name", "mcp-method")
STATUSES = frozenset({200, 400, 401, 403, 404, 405, 408, 413, 415, 417, 421, 431, 501, 503})


# -- answers ---------------------------------------------------------------------------------


@dataclass
class Told:
    """What the answers of a batch told of calls: call ids, by whether the upstream answered."""

    forwarded: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


def check_heard(shot: Shot, heard: Heard, told: Told) -> list[str]:
    """The problems of one exchange."""
    problems = []
    if heard.hung:
        problems.append("hangs")
    if heard.is_broken:
        problems.append(f"answers no HTTP: {heard.raw[:200]!r}")
    if INNER.search(heard.raw):
        problems.append(f"inner words in an answer: {heard.raw[:600]!r}")
    for answer in heard.answers:
        problems += _check_answer(shot, answer, told)
    return problems


#: Said to a connection before there is a request, and so without a call.
FAREWELLS = frozenset({"request_timeout", "too_many_connections"})


def _check_answer(shot: Shot, answer: Answer, told: Told) -> list[str]:
    if answer.status not in STATUSES:
        return [f"status {answer.status}: {answer.body[:300]!r}"]
    call_id = answer.headers.get("aegis-call-id")
    if MAGIC.encode() in answer.body:
        mark = json.loads(answer.body)["mark"]
        told.forwarded.add(call_id or "")
        if mark and mark.encode() not in shot.raw.replace(b"\r\n", b""):
            return [f"the answer of another call: {mark}"]
        return []
    if not answer.body:  # to HEAD
        return []
    document = json.loads(answer.body)
    if call_id is None and document.get("code") in FAREWELLS:
        return []
    if call_id is None:
        return [f"a refusal without a call id: {answer.body[:300]!r}"]
    text = answer.body.decode()
    if "internal_error" in text or ("condition_error" in text and "danger" not in text):
        return [f"failed inside: {text[:300]}"]
    if answer.status != 200 and "code" not in document and "error" not in document:
        return [f"a refusal without a code: {text[:300]}"]
    told.refused.add(call_id)
    return []


# -- arrivals --------------------------------------------------------------------------------


def check_arrival(arrival: Arrival) -> list[str]:
    """What is wrong with this request ever having reached an upstream, by our own reading."""
    message = arrival.message
    problems = []
    for name, value in message.headers:
        if NEVER_FORWARDED.fullmatch(name):
            problems.append(f"forwarded header {name}")
        if name in ONCE and message.count(name) > 1:
            problems.append(f"header {name} twice")
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            problems.append(f"control characters in {name}")
    try:
        problems += _check_rest(message) if arrival.upstream == "up" else _check_mcp(message)
    except Unclear as error:
        problems.append(f"unclear JSON: {error}")
    what = f"{arrival.upstream} {message.method} {message.target} {message.body[:200]!r}"
    return [f"{problem} reached {what}" for problem in problems]


def _check_rest(message: Message) -> list[str]:
    path, _, query = message.target.partition("?")
    plain = [unquote(segment) for segment in path.split("/") if segment]
    loose = loose_path(path)
    route = route_of(message.method, plain)
    if route is None or route_of(message.method, loose) != route:
        return ["a tool that is not allowed"]
    if route == "files" and any(s and s[0].startswith("secret") for s in (plain[1:], loose[1:])):
        return ["a secret file"]
    pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    media = (message.header("content-type") or "").partition(";")[0].strip().lower()
    arguments: dict[str, Any] = {}
    if (media == "application/json" or media.endswith("+json")) and message.body:
        value = strict_json(message.body)
        arguments = value if type(value) is dict else {}
    elif media == "application/x-www-form-urlencoded":
        pairs += parse_qsl(message.body.decode("ascii"), keep_blank_values=True, errors="strict")
    elif media == FORM_DATA:
        fields, files = read_form(message.header("content-type") or "", message.body)
        pairs += fields
        arguments = dict(files)
    elif ("json" in media or media.startswith("text/")) and _is_disguised(message.body):
        return ["JSON that is not called so"]
    names = [name for name, _ in pairs if name != "tags"]
    if len(set(names)) != len(names) or any(
        str(arguments.get(name, value)) != value for name, value in pairs if name != "tags"
    ):
        return ["two values for one argument"]
    # The declared list: several values in one place are its items, and two places must agree.
    tags = [value for name, value in pairs if name == "tags"]
    if tags and arguments.get("tags", tags) != tags:
        return ["two values for one argument"]
    arguments.update(pairs)
    return _check_rule(route, arguments)


def _is_disguised(body: bytes) -> bool:
    """Whether a server that guesses at encodings and skips marks would find JSON here."""
    return body.lstrip(b" \t\r\n\v\f\0\x1e\xef\xbb\xbf\xfe\xff")[:1] in (b"{", b"[")


def _check_rule(route: str, arguments: dict[str, Any]) -> list[str]:
    if route == "search" and arguments.get("q") == "secret":
        return ["a secret search"]
    if route in ("free", "form") and "danger" in arguments:
        return ["danger"]
    if route == "write":
        size = arguments.get("size")
        is_number = type(size) is int or (type(size) is str and size.lstrip("-").isdigit())
        if not is_number or int(size) > SIZE_MAX or type(arguments.get("mark")) is not str:
            return [f"a write of size {size!r}"]
    return []


def loose_path(path: str) -> list[str]:
    """The segments as a server that repairs everything would read them."""
    for _ in range(4):
        path = unquote(path)
    path = unicodedata.normalize("NFKC", path).replace("\\", "/")
    segments: list[str] = []
    for segment in path.split("/"):
        segment = segment.split(";")[0]
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return segments


def route_of(method: str, segments: list[str]) -> str | None:
    """The operation of CATALOGUES that a method and decoded segments name, if it is allowed."""
    match (method, *segments):
        case ("GET" | "HEAD", "items", _):
            return "read"
        case ("GET" | "HEAD", "search"):
            return "search"
        case ("GET" | "HEAD", "files", _, *_):
            return "files"
        case ("POST", "items"):
            return "write"
        case ("POST", "free" | "form"):
            return segments[0]
    return None


def _check_mcp(message: Message) -> list[str]:
    if message.target != "/mcp":
        return ["another endpoint"]
    if message.method in ("GET", "DELETE"):
        return ["a body"] if message.body else []
    if message.method != "POST":
        return ["a method MCP has not"]
    if "application/json" not in (message.header("content-type") or "").lower():
        return ["JSON that is not called so"]
    document = strict_json(message.body)
    if type(document) is not dict or document.get("jsonrpc") != "2.0":
        return ["no JSON-RPC request"]
    if "method" not in document:
        return [] if "id" in document and ("result" in document) != ("error" in document) else ["?"]
    method, params = document["method"], document.get("params", {})
    if type(params) is not dict or not document.keys() <= {"jsonrpc", "id", "method", "params"}:
        return ["members JSON-RPC has not"]
    problems = _check_mcp_headers(message, method, params)
    if method != "tools/call":
        return problems + ([] if method in MCP_PROTOCOL else ["a method that is not allowed"])
    if params.get("name") not in MCP_TOOLS or type(document.get("id")) not in (int, str):
        problems.append("a tool that is not allowed")
    if type(params.get("arguments", {})) is not dict:
        problems.append("arguments that are no object")
    return problems


def _check_mcp_headers(message: Message, method: Any, params: dict[str, Any]) -> list[str]:
    said_method, said_name = message.header("mcp-method"), message.header("mcp-name")
    problems = []
    if said_method is not None and said_method != method:
        problems.append("a Mcp-Method that contradicts")
    is_plain = said_name is not None and not said_name.startswith("=?")
    if is_plain and method == "tools/call" and said_name != params.get("name"):
        problems.append("a Mcp-Name that contradicts")
    return problems
