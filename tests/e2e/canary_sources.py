"""Where a secret may come in: one request for each way, with a canary planted in it.

Knows: the requests, what keeps each value out of every output, whether it must arrive upstream.
Must not know: how requests are sent, by which policies they are judged, what is searched.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from canaries import card_number, iban, word

#: Stands where the canary is planted.
HERE = "@"


class Keeper(enum.Enum):
    """What keeps a value out of every output; NOTHING is a value that is kept by design."""

    NAME = "its name in record.secrets"
    OBLIGATION = "an obligation that masks it"
    HEADER = "headers are not kept"
    UNREAD = "bodies are not kept"
    DIGEST = "only its digest is kept"
    NOTHING = "nothing: nobody called it a secret"


@dataclass(frozen=True)
class Source:
    """One request. `arrives` tells whether the upstream gets the value, `is_read` whether the
    sidecar gets so far as to record arguments; `is_raw` requests are bytes for the socket."""

    name: str
    keeper: Keeper
    request: str
    body: str = ""
    status: int = 200
    arrives: bool = True
    is_read: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    value: Callable[[], str] = word
    is_raw: bool = False


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TEXT = {"Content-Type": "text/plain"}


def _named(name: str, request: str, body: Any = None, **more: Any) -> Source:
    text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
    headers = more.pop("headers", JSON if text else {})
    return Source(name, Keeper.NAME, request, text, headers=headers, **more)


def _refused(name: str, request: str, body: Any = None, status: int = 403, **more: Any) -> Source:
    return _named(name, request, body, status=status, arrives=False, **more)


def _unjudged(name: str, request: str, body: Any = None, status: int = 400) -> Source:
    return _refused(name, request, body, status, is_read=False)


def _rpc(method: str, params: Any, **more: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more})


def _tool(name: str, **arguments: Any) -> str:
    return _rpc("tools/call", {"name": name, "arguments": arguments})


def _unread(name: str, body: str, status: int = 400, **more: Any) -> Source:
    request = more.pop("request", "POST /open/any")
    headers = more.pop("headers", JSON)
    return Source(
        name, Keeper.UNREAD, request, body, status=status, arrives=False, headers=headers, **more
    )


def _masked(name: str, request: str, body: Any, **more: Any) -> Source:
    text = body if isinstance(body, str) else json.dumps(body)
    return Source(name, Keeper.OBLIGATION, request, text, arrives=False, headers=JSON, **more)


def _header(
    name: str, fields: Mapping[str, str], request: str = "GET /open/search", **more: Any
) -> Source:
    return Source(name, Keeper.HEADER, request, headers=fields, **more)


def _key() -> str:
    return f"sk_live_{word()}"


def _private_key() -> str:
    return f"-----BEGIN PRIVATE KEY-----{word()}-----END PRIVATE KEY-----"


def _email() -> str:
    return f"{word()}%{word()}.example".replace("%", "\N{COMMERCIAL AT}")


def _pin() -> str:
    return f"7{int(word()[1:], 16) % 10**14:014d}"


_ARGUMENTS = (
    *(
        _named(f"argument {name}", "POST /open/any", {name: HERE})
        for name in (
            "password", "token", "secret", "api_key", "authorization",
            "PassWord", "API-KEY", "apiKey", "api.key", "ssn", "Card_Holder", "cardHolder",
        )
    ),
    _named("deep in objects", "POST /open/any", {"a": {"b": {"c": {"Token": HERE}}}}),
    _named("deep in lists", "POST /open/any", {"a": [[{"b": [{"secret": HERE}]}]]}),
    _named("a list", "POST /open/any", {"password": ["a", HERE]}),
    _named("below a secret name", "POST /open/any", {"token": {"value": {"x": HERE}}}),
    _named("a number", "POST /open/any", '{"password": @}', value=_pin),
    _named("in a list as the body", "POST /open/any", [{"password": HERE}]),
    _named("escaped in JSON", "POST /open/any", '{"pass\\u0077ord": "@"}'),
    _named("in the query", f"GET /open/search?x=1&api_key={HERE}"),
    _named("in the query, name escaped", f"GET /open/search?To%6Ben={HERE}"),
    _named("in the query, a member", f"GET /open/search?user[password]={HERE}"),
    _named("in the query of a HEAD", f"HEAD /open/search?token={HERE}"),
    _named("in a form", "POST /open/any", f"a=1&secret={HERE}", headers=FORM),
    _named("in a form, a member", "POST /open/any", f"user%5Bpassword%5D={HERE}", headers=FORM),
    _named("in a form, dotted", "POST /open/any", f"user.password={HERE}", headers=FORM),
    _named("in a form, a list", "POST /open/any", f"token%5B%5D={HERE}", headers=FORM),
    _named("in the path", f"GET /open/reset/{HERE}"),
    _named("in the path, fixed ends", f"GET /open/hook/{HERE}.json"),
    _named("in the path, its rest", f"GET /open/files/a/{HERE}/b"),
    _named("in the path, a number", f"GET /open/pin/{HERE}", value=_pin),
    _named("counted by in the process", "POST /open/limited", {"token": HERE}),
    _named("MCP arguments", "POST /tools/mcp", _tool("add", password=HERE)),
    _named("MCP arguments, deep", "POST /tools/mcp", _tool("add", a=[{"apiKey": HERE}])),
    _named(
        "MCP protocol", "POST /tools/mcp", _rpc("initialize", {"clientInfo": {"token": HERE}})
    ),
    _named(
        "MCP parameters", "POST /tools/mcp", _rpc("prompts/get", {"name": "p", "token": HERE})
    ),
    _named("an upstream that breaks", "POST /open/answer/broken", {"password": HERE}, status=502),
    _named("an upstream that is not there", "POST /gone/any", {"password": HERE}, status=502,
           arrives=False),
)  # fmt: skip

_REFUSED = (
    _refused(
        "MCP protocol and more", "POST /tools/mcp", _rpc("initialize", {"x": {"token": HERE}}),
        status=200,
    ),
    _refused("no rule allows it", "POST /open/nothing", {"password": HERE}),
    _refused("no route has it", f"POST /open/none?token={HERE}", {"a": 1}),
    _refused("denied, the reason names it", "POST /open/told", {"password": HERE}),
    _refused("the reason, another spelling", "POST /open/told", {"apiKey": HERE}),
    _refused("the reason, a member", "POST /open/told", {"user": {"api-key": HERE}}),
    _refused("the reason, the query", f"POST /open/told?token={HERE}", {"a": 1}),
    _refused("the reason, the path", f"GET /open/told/{HERE}"),
    _refused("the reason, a member of a form", "POST /open/told", f"user[token]={HERE}",
             headers=FORM),
    _refused("a condition fails on it", "POST /open/lookup", {"token": HERE}),
    _refused("a condition fails on a number", "POST /open/lookup", '{"token": @}', value=_pin),
    _unjudged("an argument of the wrong type", "POST /open/typed", {"token": HERE}),
    _unjudged("a query of the wrong type", f"GET /open/typed?token={HERE}"),
    _unjudged("a path of the wrong type", f"GET /open/typed/{HERE}"),
    _unjudged("an argument not declared", "POST /open/typed", {"token": 1, "password": HERE}),
    _unjudged("given twice", f"POST /open/any?password={HERE}", {"password": "b"}),
    _refused("over a limit", "POST /open/over", {"token": HERE}, 429),
    _refused("over a limit of the store", "POST /open/spent", {"token": HERE}, 429),
    _refused("MCP, denied", "POST /tools/mcp", _tool("told", password=HERE), 200),
    _refused("MCP, not declared", "POST /tools/mcp", _tool("other", password=HERE), 200),
    _unjudged("MCP, a wrong argument", "POST /tools/mcp", _tool("typed", token=HERE), 200),
    _unjudged("the sidecar fails on it", "POST /open/fault", {"password": HERE}, 503),
)  # fmt: skip

_UNREAD = (
    _unread("JSON cut off", '{"password": "@"'),
    _unread("JSON, a name twice", '{"password": "@", "password": "b"}'),
    _unread("JSON, no number", '{"password": "@", "a": NaN}'),
    _unread("JSON, NUL", '{"password": "@\\u0000"}'),
    _unread("JSON, too deep", f'{{"password": "@", "a": {"[" * 80}{"]" * 80}}}'),
    _unread("JSON, a large integer", '{"password": "@", "a": 9007199254740993}'),
    _unread("JSON as text", '{"password": "@"}', 415, headers=TEXT),
    _unread("an odd charset", "{}", 415,
            headers={"Content-Type": f"application/json; charset={HERE}"}),
    _unread("a form, no escape", "password=@%zz", headers=FORM),
    _unread("MCP, a batch", f"[{_tool('add', password=HERE)}]", request="POST /tools/mcp"),
    _unread("MCP, an odd member", _rpc("ping", {}, token=HERE), request="POST /tools/mcp"),
    _unread(
        "MCP, a header that says otherwise", _tool("add"), request="POST /tools/mcp",
        headers={**JSON, "Mcp-Param-Token": HERE},
    ),
    _unread("no such upstream", '{"password": "@"}', 404, request="POST /nowhere/any"),
    _unread(
        "a body that breaks off", "",
        request="POST /open/any HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        'Content-Length: 90\r\n\r\n{"password": "@"', is_raw=True,
    ),
    _unread("no HTTP", "", request="@ @ @\r\n\r\n", is_raw=True),
    _unread("a malformed head", "",
            request="GET /open/search?token=@ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Auth orization: @\r\n\r\n", is_raw=True),
    _unread("a path read twice", "", request=f"GET /open/reset/..%2f{HERE}", headers={}),
)  # fmt: skip

_HEADERS = (
    _header("the agent's Authorization", {"Authorization": f"Bearer {HERE}"}),
    _header("the agent's Cookie", {"Cookie": f"session={HERE}"}),
    _header("a key in a header", {"X-Api-Key": HERE}),
    _header("an Idempotency-Key", {"Idempotency-Key": HERE}),
    _header("any header", {"X-Note": HERE}),
    _header("Authorization that is replaced", {"Authorization": f"Basic {HERE}"},
            "GET /shop/items", arrives=False),
    _header("a bearer that is nobody's", {"Authorization": f"Bearer {HERE}"},
            "GET /shop/items", status=401, arrives=False),
    _header("Aegis-Token", {"Aegis-Token": HERE}, status=401, arrives=False),
    _header("Aegis-Approval", {"Aegis-Approval": HERE}, arrives=False),
    _header("Proxy-Authorization", {"Proxy-Authorization": f"Basic {HERE}"}, arrives=False),
    Source("an MCP session", Keeper.DIGEST, "POST /tools/mcp", _tool("add"),
           headers={**JSON, "Mcp-Session-Id": HERE}, status=404, arrives=False),
)  # fmt: skip

_OBLIGED = (
    _masked("masked at a path", "POST /open/masked", {"card": HERE}),
    _masked("masked below a path", "POST /open/masked", {"customer": [{"tax": HERE}]}),
    *(
        _masked(f"masked: {name}", "POST /open/masked", {"note": [f"see {HERE} there"]}, value=make)
        for name, make in (
            ("card number", card_number), ("IBAN", iban), ("API key", _key),
            ("private key", _private_key), ("e-mail", _email),
        )
    ),
    _masked("masked, a number", "POST /open/masked", '{"note": @}', value=card_number),
    _masked("masked in MCP", "POST /tools/mcp", _tool("masked", note=f"see {HERE}"), value=iban),
    _masked("refused, the reason names a path", "POST /open/masked-told", {"card": HERE},
            status=403),
    _masked("refused, the reason names a text", "POST /open/masked-told", {"note": f"x {HERE}"},
            status=403, value=card_number),
    _masked("over a limit, the reason names it", "POST /open/masked-over", {"card": HERE},
            status=429),
    _masked("over a limit of the store, named", "POST /open/masked-spent", {"note": HERE},
            status=429, value=card_number),
    _masked("where it cannot be masked", f"POST /open/masked?note={HERE}", {"a": 1}, status=403,
            value=card_number),
)  # fmt: skip


def _ask(action: str, parameters: Any = None, **more: Any) -> str:
    """An authorize request; `more` are members of its parts, by dotted path."""
    asked: dict[str, Any] = {
        "agent": {"id": "agent", "environment": "production"},
        "tool_call": {
            "tool": "asks", "action": action, "resource": None, "mutates_state": False,
            "parameters": {} if parameters is None else parameters,
        },
        "context": {"source_trust": "trusted_internal_signed"},
    }  # fmt: skip
    for path, value in more.items():
        *parents, last = path.split("__")
        at = asked
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return json.dumps(asked)


_ASKED = "POST /v1/authorize"
_SECRET = {"password": HERE}
_SHOWN = {"note": f"see {HERE} there"}
_AUTHORIZED = (
    *(
        _refused(f"authorize: {name}", _ASKED, body, 200)
        for name, body in (
            ("a parameter", _ask("any", _SECRET)),
            ("deep", _ask("any", {"a": [[{"api.key": {"b": HERE}}]]})),
            ("denied, the reason names it", _ask("told", _SECRET)),
            ("not declared", _ask("other", _SECRET)),
            ("waits for a yes, the reason names it", _ask("waits", _SECRET)),
            ("with a request id", _ask("any", _SECRET, request_id="r-1")),
        )
    ),
    _refused("authorize: a parameter of the wrong type", _ASKED, _ask("typed", {"token": HERE}),
             200),
    _refused("authorize: over a limit of the store", _ASKED, _ask("spent", _SECRET), 429),
    _unread("authorize: a dry run", _ask("any", _SECRET, dry_run=True), 200, request=_ASKED),
    _unread("authorize: a member nobody knows", _ask("any", tool_call__token=HERE), 400,
            request=_ASKED),
    _unread("authorize: a callback", _ask("any", callback={"secret": HERE}), 400, request=_ASKED),
    _unread("authorize: cut off", _ask("any", _SECRET)[:-2], 400, request=_ASKED),
    _unread("authorize: a timestamp", _ask("any", timestamp=HERE), 400, request=_ASKED),
    _unread("authorize: a level nobody knows", _ask("any", context__source_trust=HERE), 200,
            request=_ASKED),
    _unread("authorize: a root level nobody knows",
            _ask("any", trace={"run_id": "r", "trace_id": "t", "root_trust_level": HERE}), 200,
            request=_ASKED),
    _unread("consume: a hash that is none", json.dumps({"claimed_action_hash": HERE}), 400,
            request=f"POST /v1/approvals/{'0' * 32}/consume"),
    _unread("consume: an id that is none", "", 404, request=f"POST /v1/approvals/{HERE}/consume"),
    _unread("poll: an id that is none", "", 404, request=f"GET /v1/approvals/{HERE}", headers={}),
    _header("authorize: a signature", {**JSON, "X-Aegis-Request-Signature": HERE}, _ASKED,
            status=401, arrives=False),
    *(
        _masked(f"authorize, masked: {name}", _ASKED, body, value=make)
        for name, body, make in (
            ("at a path", _ask("masked", {"card": HERE}), word),
            ("a card number", _ask("masked", _SHOWN), card_number),
            ("waits for a yes, at a path", _ask("waits", {"card": HERE}), word),
            ("waits for a yes, a card number", _ask("waits", _SHOWN), card_number),
        )
    ),
)  # fmt: skip

#: What is kept as it is, because nobody named it: the positive control of every search.
_KEPT = (
    Source("kept: an argument", Keeper.NOTHING, "POST /open/any", '{"note": "@"}', headers=JSON),
    Source("kept: a path", Keeper.NOTHING, f"GET /open/search/{HERE}", status=403, arrives=False),
    Source("kept: a run id", Keeper.NOTHING, "GET /open/search", headers={"Aegis-Run": HERE},
           arrives=False),
    Source("kept: a reason", Keeper.NOTHING, "POST /open/told", '{"user": "@"}', headers=JSON,
           status=403, arrives=False),
    Source("kept: a parameter", Keeper.NOTHING, _ASKED, _ask("any", {"note": HERE}), headers=JSON,
           arrives=False),
)  # fmt: skip

SOURCES = (*_ARGUMENTS, *_REFUSED, *_UNREAD, *_HEADERS, *_OBLIGED, *_AUTHORIZED, *_KEPT)
