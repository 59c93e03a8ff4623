"""A request head, checked before anything else looks at it.

Knows: what RFC 9110 and RFC 9112 leave to a recipient's leniency, and refuses it: the C parser in
front accepts more than two servers in a row would read alike.
Must not know: sockets, which upstreams exist, policies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from sidecar.errors import Refused
from sidecar.proxy.target import Path, read_target
from sidecar.proxy.websocket_handshake import require_handshake

#: Headers that two readers could take differently when they stand there twice.
SINGLE = frozenset(
    {
        "authorization",
        "content-encoding",
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "host",
        "idempotency-key",
        "if-modified-since",
        "if-unmodified-since",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "origin",
        "proxy-authorization",
        "range",
        "referer",
        "traceparent",
        "transfer-encoding",
        "user-agent",
        "x-api-key",
    }
)

#: What `Connection` may name besides: it is dropped with the connection it describes.
_CONNECTION_OPTIONS = frozenset(
    {"close", "keep-alive", "te", "trailer", "proxy-connection", "upgrade", "http2-settings"}
)
_PROTECTED = SINGLE | {"accept", "accept-encoding", "forwarded", "via", "content-disposition"}
_PROTECTED_PREFIXES = ("aegis-", "mcp-", "x-forwarded-", "sec-", "content-", "if-")

#: What `Connection` says nearly always; it names no header.
PLAIN_CONNECTION = frozenset({"keep-alive", "close", "Keep-Alive", "Close"})

_COMMON_METHODS = frozenset({"POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_METHOD = re.compile(r"[A-Z][A-Z-]{0,19}")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


Headers = tuple[tuple[str, str], ...]
#: Header fields as received, and by lower-case name the first value of each.
Fields = tuple[Headers, dict[str, str]]

_new_tuple = tuple.__new__


@dataclass(frozen=True, slots=True)
class HeadRules:
    """What a listener accepts: Host names, the two caps, and who may have %2F, or `;`, in a
    segment.

    `by_host` names the upstream that a Host name of its own leads to; none of them is in `hosts`.
    `decode` gives, by upstream, the codings a body may come in.
    `scheme` is what the listener speaks, `log_in` names the upstreams whose metadata for logging
    in stands under `.well-known` (RFC 9728 section 3.1).
    """

    hosts: frozenset[str]
    parameters_max: int = 128
    headers_max: int = 64
    encoded_slash: frozenset[str] = frozenset()
    path_parameters: frozenset[str] = frozenset()
    by_host: Mapping[str, str] = field(default_factory=dict)
    decode: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scheme: str = "http"
    log_in: frozenset[str] = frozenset()


class RequestHead(NamedTuple):
    """A well-formed request head.

    `upstream` is the first path segment, `segments` the rest, each decoded once. `target` is
    what to forward, byte for byte as received: "/rest/of/path?query", "?query" or "".
    Where the Host names an upstream, that is `upstream`, and the whole path is the rest. `mount` is
    where the caller sees the upstream: "/upstream", or "" for a Host of its own.
    `path` is the decoded form of the same without the query; `query` is raw.
    `headers` stand as received, in order; all are valid UTF-8 without control characters.
    `first` holds, by lower-case name, the first value of each.
    """

    method: str
    upstream: str
    segments: tuple[str, ...]
    target: str
    path: str
    query: str
    headers: Headers
    source_ip: str
    version: tuple[int, int]
    first: dict[str, str]
    mount: str = ""
    scheme: str = "http"

    @property
    def origin(self) -> str:
        """Scheme and authority of the URL that the caller used."""
        return f"{self.scheme}://{self.first.get('host', '')}"

    @property
    def is_handshake(self) -> bool:
        """Whether it asks for a WebSocket: no other upgrade is well formed."""
        return "upgrade" in self.first

    def header_count(self, name_lower: str) -> int:
        """How often a header of this (lower case) name is there."""
        if name_lower not in self.first:
            return 0
        return sum(1 for name, _ in self.headers if name.lower() == name_lower)


def read_head(
    method: str,
    raw_target: str,
    version: tuple[int, int],
    raw_headers: Sequence[tuple[bytes, bytes]],
    source_ip: str,
    rules: HeadRules,
    fields: Fields | None = None,
) -> RequestHead:
    """The head of one request as the parser saw it, or Refused with the code that fits.

    `fields` are `raw_headers` as they were found well formed before, with this method and version
    and by these rules. Framing comes first: after a framing error nothing else of the message can
    be trusted.
    """
    headers, first = fields or _checked_fields(method, version, raw_headers, rules)
    named = _upstream_of(first["host"], rules)
    if named is not None and raw_target[:1] == "/":
        # One reading only: the whole path is this upstream's, whatever its first segment.
        raw_target = f"/{named}{raw_target}"
    path, query = _read_way(raw_target, first, rules)
    target = f"{path.rest}?{query}" if query else path.rest
    return _new_tuple(
        RequestHead,
        (method, path.upstream, path.segments, target, path.decoded, query, headers, source_ip,
         version, first, f"/{path.upstream}" if named is None else "", rules.scheme),
    )  # fmt: skip


def _checked_fields(
    method: str,
    version: tuple[int, int],
    raw_headers: Sequence[tuple[bytes, bytes]],
    rules: HeadRules,
) -> Fields:
    """The header fields, found well formed whatever the target is."""
    if version not in ((1, 1), (1, 0)):
        raise Refused("malformed_request", "Only HTTP/1.1 and HTTP/1.0 are served")
    if len(raw_headers) > rules.headers_max:
        raise Refused("headers_too_large", f"More than {rules.headers_max} headers")
    headers, first = _read_headers(raw_headers)
    if "transfer-encoding" in first:
        _require_framing(first, version)
    if method not in _COMMON_METHODS:
        _require_method(method)
    if "host" not in first:
        raise Refused("malformed_request", "Host is missing")
    for name, check in _CHECKS:
        if name in first:
            check(first, headers, rules)
    if "upgrade" in first:
        require_handshake(method, version, first, headers)
    return headers, first


def _read_way(raw_target: str, first: dict[str, str], rules: HeadRules) -> tuple[Path, str]:
    """Path and query, and what the upstream that the path leads to allows of the request."""
    path, query = read_target(raw_target, rules.parameters_max)
    if path.has_encoded_slash and path.upstream not in rules.encoded_slash:
        raise Refused("ambiguous_path", "A segment of the path has an encoded slash")
    if path.has_parameters and path.upstream not in rules.path_parameters:
        raise Refused(
            "ambiguous_path", "Some servers end a segment of the path at its `;`: write it as %3B"
        )
    if "content-encoding" in first:
        _require_coding(first["content-encoding"], rules.decode.get(path.upstream, ()))
    if path.upstream == ".well-known":
        path = _well_known(path, rules)
    return path, query


def _well_known(path: Path, rules: HeadRules) -> Path:
    """What stands at `/.well-known/KIND/NAME/…` is metadata of `/NAME/…`, the upstream's own."""
    kind, *names = path.segments or ("",)
    if kind != "oauth-protected-resource" or not names or names[0] not in rules.log_in:
        return path
    raw_kind, raw_name, *raw_rest = path.rest[1:].split("/", 2)
    if (raw_kind, raw_name) != (kind, names[0]):
        return path
    rest = "/".join(["", ".well-known", kind, *raw_rest])
    return replace(path, upstream=raw_name, segments=(".well-known", kind, *names[1:]), rest=rest)


def _read_headers(raw_headers: Sequence[tuple[bytes, bytes]]) -> Fields:
    first: dict[str, str] = {}
    headers: list[tuple[str, str]] = []
    try:
        for raw_name, raw_value in raw_headers:
            name, lower = _read_name(raw_name) if len(raw_name) <= 64 else _name_of(raw_name)
            value = raw_value.decode("utf-8")
            headers.append((name, value))
            if lower not in first:
                first[lower] = value
            elif lower in SINGLE or lower.startswith("aegis-"):
                raise Refused("ambiguous_header", f"{name} is there twice")
    except UnicodeDecodeError:
        raise Refused("malformed_request", "A header is not UTF-8") from None
    return tuple(headers), first


def _name_of(raw: bytes) -> tuple[str, str]:
    """A header's name as received, and in lower case."""
    name = raw.decode("ascii")
    if "_" in name:
        raise Refused("ambiguous_header", "A header name holds an underscore")
    return name, name.lower()


#: Agents say the same few names again and again.
_read_name = lru_cache(maxsize=1024)(_name_of)


def _require_method(method: str) -> None:
    if not _METHOD.fullmatch(method):
        raise Refused("malformed_request", "The method is no upper-case token")
    if method == "CONNECT":
        raise Refused("connect_refused")
    if method == "TRACE":
        raise Refused("method_not_allowed", "TRACE is not served")


def _require_framing(first: dict[str, str], version: tuple[int, int]) -> None:
    if first["transfer-encoding"] != "chunked" or version != (1, 1) or "content-length" in first:
        raise Refused("malformed_request", "Only Transfer-Encoding: chunked of HTTP/1.1 is read")


@lru_cache(maxsize=128)
def _host_of(authority: str) -> str | None:
    """The lower-case name in `name`, `name:port`, `[v6]:port`; None if it is anything else."""
    name, port = authority.lower(), ""
    colon = name.rfind(":")
    if colon > name.rfind("]"):
        name, port = name[:colon], name[colon + 1 :]
        if not _PORT.fullmatch(port) or int(port) > 65535:
            return None
    return name if _HOST_NAME.fullmatch(name) else None


@lru_cache(maxsize=128)
def _is_served(authority: str, hosts: frozenset[str]) -> bool:
    name = _host_of(authority)
    return name is not None and (
        name in hosts or name.strip("[]") in hosts or authority.lower() in hosts
    )


def _upstream_of(authority: str, rules: HeadRules) -> str | None:
    """The upstream that a Host names, if it names one."""
    if not rules.by_host:
        return None
    name = _host_of(authority)
    return None if name is None else rules.by_host.get(name.strip("[]"))


def _check_host(first: dict[str, str], _: Headers, rules: HeadRules) -> None:
    authority = first["host"]
    if not _is_served(authority, rules.hosts) and _upstream_of(authority, rules) is None:
        if _host_of(authority) is None:
            raise Refused("malformed_request", "Host is not a name with an optional port")
        raise Refused("misdirected_request")


def _check_origin(first: dict[str, str], _: Headers, rules: HeadRules) -> None:
    scheme, separator, authority = first["origin"].partition("://")
    if separator and scheme in ("http", "https"):
        if _upstream_of(first.get("host", ""), rules) is not None:
            # What one upstream shows must not call another: only the Host's own pages may.
            if _host_of(authority) == _host_of(first["host"]):
                return
        elif _is_served(authority, rules.hosts):
            return
    raise Refused("origin_not_allowed")


def _check_connection(first: dict[str, str], headers: Headers, _: HeadRules) -> None:
    if first["connection"] in PLAIN_CONNECTION and len(first) == len(headers):
        return
    for token in connection_tokens(headers) - _CONNECTION_OPTIONS:
        if token in _PROTECTED or token.startswith(_PROTECTED_PREFIXES):
            raise Refused("ambiguous_header", "Connection names an end-to-end header")


def connection_tokens(headers: Sequence[tuple[str, str]]) -> set[str]:
    """The lower-case names that all `Connection` headers together list."""
    return {
        token.strip(" \t").lower()
        for name, value in headers
        if name.lower() == "connection"
        for token in value.split(",")
    }


def _require_coding(value: str, allowed: tuple[str, ...]) -> None:
    """One coding, and one that the upstream allows; several on top of each other are none."""
    coding = value.strip().lower()
    if coding != "identity" and coding not in allowed:
        raise Refused("unsupported_encoding")


def _check_expect(first: dict[str, str], _: Headers, _rules: HeadRules) -> None:
    if first["expect"].lower() != "100-continue":
        raise Refused("expectation_failed")


_Check = Callable[[dict[str, str], Headers, HeadRules], None]
_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("host", _check_host),
    ("origin", _check_origin),
    ("connection", _check_connection),
    ("expect", _check_expect),
)
