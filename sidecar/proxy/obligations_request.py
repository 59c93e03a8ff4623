"""Obligations before a call is forwarded: its idempotency key, its headers, its masked values.

Knows: that a value is masked where it stands in a JSON body, or in lines of it (or in the arguments
of an MCP tool, beside them, and in the headers that repeat them), and that what stands elsewhere
(path, query, form, binary) cannot be masked without making another request of it: such a call is
refused, also where a form writes a member in its name (`customer[email]`). The call that is given
is the one to record and forward.
Must not know: rules, how a request is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_plus

from sidecar.config.model import Upstream
from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.secret_names import parts_of
from sidecar.policy.terms import Obligations, Redaction
from sidecar.proxy.content_coding import OF_THE_BYTES
from sidecar.proxy.detectors import MASK, mask
from sidecar.proxy.dialects.content_type import is_json, is_lines_of_json
from sidecar.proxy.dialects.mcp_headers import NAME_HEADER, repeating
from sidecar.proxy.dialects.mcp_methods import RESPONSE, TOOLS_CALL
from sidecar.proxy.dialects.rest_arguments import FILE_KEYS
from sidecar.proxy.headers import plain, readable
from sidecar.proxy.masking import NotMaskable, below, masked, read_json, write_json

_KEY_HEADER: Final = "idempotency-key"
#: Of a tools/call: its name, its arguments, which are masked by themselves, and what the server
#: gave to be given back as it is.
_NOT_SEARCHED: Final = frozenset({"name", "arguments", "requestState"})
#: What is asked to be done something with, where that is no path; only whoever asks says it.
_RESOURCE: Final = "resource"
_KEY: Final = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")


def fulfilled(
    call: ToolCall,
    obligations: Obligations,
    upstream: Upstream,
    masked_to_send: Callable[[], ToolCall],
) -> ToolCall:
    """The call as it is to be recorded and forwarded; `masked_to_send` gives it masked, and is
    asked where the obligations want that.

    Raises Refused: idempotency_key_required, unredactable_request, frames_unchecked,
    task_unchecked.
    """
    if call.upgrades and (obligations.touches_response or obligations.request):
        raise Refused("frames_unchecked")
    if obligations.touches_response and call.action == TOOLS_CALL and _is_task(call):
        raise Refused("task_unchecked")
    if obligations.needs_idempotency_key:
        _require_key(call)
    sent = call
    if obligations.request:
        sent = masked_to_send()
    headers: Iterable[tuple[str, str]] = sent.headers
    if sent.body is not call.body:
        sent = sent._replace(received=call.body)
        headers = _without(headers, OF_THE_BYTES)
    if obligations.response:
        headers = readable(headers)
    elif obligations.max_response_bytes is not None:
        headers = plain(headers)
    if obligations.set_headers or obligations.remove_headers:
        headers = _with_headers(headers, obligations, upstream)
    return sent if headers is call.headers else sent._replace(headers=tuple(headers))


def recordable(call: ToolCall, redaction: Redaction) -> ToolCall:
    """A call as it may be recorded if it does not go ahead: arguments, address, resource masked."""
    http, beside = call.http, call.beside
    path, query = mask(http.path, redaction.detectors), unquote_plus(http.query, errors="replace")
    paths = below(redaction.paths)
    if call.dialect == "rest":  # what is no object, lines of JSON too, is the argument `body`
        paths = (*paths, *(path for path in redaction.paths if path[0] == "body"))
    try:
        args = masked(dict(call.args), paths, redaction.detectors)
    except NotMaskable:
        args = {}
    args |= dict.fromkeys(_members_of(args, paths), MASK)
    gone = [str(v) for k, v in call.args.items() if _is_short(v) and args.get(k) != v]
    path = _without_texts(path, gone)
    if beside is not None and isinstance(resource := beside.get(_RESOURCE), str):
        clean = _without_texts(mask(resource, redaction.detectors), gone)
        beside = {**beside, _RESOURCE: clean}
    is_clean = mask(query, redaction.detectors) == query and not any(
        args.get(name) != call.args.get(name) for name in _names_in(http.query)
    )
    http = http._replace(path=path, query=http.query if is_clean else "")
    return call._replace(args=args, http=http, is_json=False, beside=beside)


def _without_texts(text: str, texts: Iterable[str]) -> str:
    for one in texts:
        text = text.replace(one, MASK)
    return text


def _is_task(call: ToolCall) -> bool:
    """Whether a tool is to run as a task: then what it gives back is had by `tasks/result`, which
    names no tool, so that no rule about the tool is asked."""
    message = read_json(call.body)
    params = message.get("params") if isinstance(message, dict) else None
    return isinstance(params, dict) and params.get("task") is not None


def _require_key(call: ToolCall) -> None:
    key = call.http.headers.get(_KEY_HEADER, "")
    if not _KEY.fullmatch(key):
        raise Refused("idempotency_key_required")


def _without(headers: Iterable[tuple[str, str]], names: Iterable[str]) -> list[tuple[str, str]]:
    return [pair for pair in headers if pair[0].lower() not in names]


def _with_headers(
    headers: Iterable[tuple[str, str]], obligations: Obligations, upstream: Upstream
) -> list[tuple[str, str]]:
    """The header that carries the upstream's credential stays the sidecar's own."""
    own = upstream.auth.header_name.lower() if upstream.auth is not None else ""
    own = own.replace("_", "-")
    given = [pair for pair in obligations.set_headers if pair[0].replace("_", "-") != own]
    gone = {*obligations.remove_headers, *(name for name, _ in obligations.set_headers)}
    return [*_without(headers, gone), *given]


def masked_to_send(call: ToolCall, redaction: Redaction) -> ToolCall:
    """The call with what is to be masked of it; raises Refused("unredactable_request")."""
    try:
        if call.dialect == "mcp":
            return _mcp(call, redaction)
        return _rest(call, redaction)
    except NotMaskable as error:
        raise Refused("unredactable_request", detail=str(error)) from error


def _mcp(call: ToolCall, redaction: Redaction) -> ToolCall:
    """`args.` and `body.` both begin at the arguments of the tool. What goes beside these, answers
    to what the server asked above all, is searched too."""
    args = masked(dict(call.args), below(redaction.paths), redaction.detectors)
    is_call = call.action == TOOLS_CALL
    if args == call.args and not (is_call and redaction.detectors):
        return call
    message = read_json(call.body)
    if call.action == RESPONSE:  # its arguments are members of the message
        return call._replace(args=args, body=write_json({**message, **args}))
    params = message.get("params") if isinstance(message, dict) else None
    if not isinstance(params, dict):
        raise NotMaskable("the message has no params")
    made = args
    if is_call:
        beside = {name: one for name, one in params.items() if name not in _NOT_SEARCHED}
        made = {**params, **masked(beside, (), redaction.detectors)}
        if args != call.args:
            made["arguments"] = args
    if made == params:
        return call
    is_named = any(name.lower() == NAME_HEADER for name, _ in call.headers)
    if is_named and made.get("uri") != params.get("uri"):
        raise NotMaskable("Mcp-Name repeats it")
    headers = repeating(
        call.headers, made.get("arguments"), MASK, partial(mask, detectors=redaction.detectors)
    )
    body = write_json({**message, "params": made})
    return call._replace(args=args, body=body, headers=headers)


def _rest(call: ToolCall, redaction: Redaction) -> ToolCall:
    """Masks in a body of JSON or lines of it; raises NotMaskable if anything stands elsewhere."""
    if redaction.detectors:
        _require_clean_address(call, redaction)
    media = call.http.headers.get("content-type", "").partition(";")[0].strip(" \t").lower()
    has_lines = is_lines_of_json(media)
    if not call.body or not (has_lines or is_json(media)):
        _require_clean(dict(call.args), redaction, is_body=True)
        return call
    document: Any = _lines(call.body) if has_lines else read_json(call.body)
    is_object = isinstance(document, dict)
    elsewhere = {
        name: value
        for name, value in call.args.items()
        if (name not in document if is_object else name != "body")
    }
    _require_clean(elsewhere, redaction, is_body=False)
    made = masked(document, _paths_below(redaction, is_object=is_object), redaction.detectors)
    if made == document:
        return call
    if is_object:
        _require_once(call, document, made)
    args = {**elsewhere, **(made if is_object else {"body": made})}
    body = b"".join(write_json(one) + b"\n" for one in made) if has_lines else write_json(made)
    return call._replace(args=args, body=body)


def _lines(body: bytes) -> list[Any]:
    return [read_json(line) for line in body.removesuffix(b"\n").split(b"\n")]


def _paths_below(redaction: Redaction, *, is_object: bool) -> tuple[tuple[str, ...], ...]:
    """Paths below the document: the members of an object are arguments themselves, any other
    document is the argument `body`."""
    if is_object:
        return below(redaction.paths)
    in_args = [path[2:] for path in redaction.paths if path[:2] == ("args", "body")]
    return (*in_args, *(path[1:] for path in redaction.paths if path[0] == "body"))


def _require_clean(values: dict[str, Any], redaction: Redaction, *, is_body: bool) -> None:
    """Of what stands where it cannot be masked, nothing may have to be; `is_body` tells that the
    body's own arguments are among the values, or that rules know the body by its digest only."""
    roots = ("args", "body") if is_body else ("args",)
    paths = [path[1:] for path in redaction.paths if path[0] in roots]
    if masked(values, paths, redaction.detectors) != values or _members_of(values, paths):
        raise NotMaskable("it stands in the path, the query or a form")
    if is_body and redaction.detectors and "body_sha256" in values:
        raise NotMaskable("the body is neither JSON nor a form")
    if is_body and redaction.detectors and any(map(_is_of_files, values.values())):
        raise NotMaskable("the body holds a file, which is known by its digest only")


def _members_of(values: Mapping[str, Any], paths: Collection[tuple[str, ...]]) -> list[str]:
    """Names that say, as forms and queries write it, that what has them stands below a path."""
    found = []
    for name in values:
        if "[" in name or "." in name:
            parts = tuple(parts_of(name))
            found += [name for path in paths if parts[: len(path)] == path]
    return found


def _is_of_files(value: Any) -> bool:
    return any(
        isinstance(one, dict) and one.keys() == FILE_KEYS
        for one in (value if isinstance(value, list) else [value])
    )


def _require_clean_address(call: ToolCall, redaction: Redaction) -> None:
    """An undeclared path is no argument, and can hold anything."""
    for text in (call.http.path, unquote_plus(call.http.query, errors="replace")):
        if mask(text, redaction.detectors) != text:
            raise NotMaskable("it stands in the path or the query")


def _require_once(call: ToolCall, document: dict[str, Any], made: dict[str, Any]) -> None:
    """An argument may stand in the path or query too, with the same value."""
    query = unquote_plus(call.http.query, errors="replace")
    named = {*call.in_path, *_names_in(call.http.query)}
    for name, value in document.items():
        if made.get(name) == value:
            continue
        is_there = _is_short(value) and (str(value) in call.http.path or str(value) in query)
        if is_there or name in named:
            raise NotMaskable("it stands in the path or the query too")


def _names_in(query: str) -> set[str]:
    """The names of a raw query's parameters."""
    return {unquote_plus(one.partition("=")[0], errors="replace") for one in query.split("&")}


def _is_short(value: Any) -> bool:
    """Whether a value may stand in a path or a query as it is."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
