"""The arguments of a recorded call, held to what the catalogue declares of its tool now. Pure.

Knows: that a record has values as they were bound then, and not which of them came as text: what
stands in the path surely did, and all of a request without a body; of anything else over REST a
text that is declared as a number may have been either, and then its value is not known.
Must not know: records, routes that fit, rules.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from sidecar.model import Tool, ToolCall
from sidecar.policy.catalogue import Entry
from sidecar.policy.hidden import ArgumentPath, Hidden
from sidecar.policy.routes import Route, parse_route

_AUTHORIZE: Final = "authorize"
#: What the sidecar says of a body that it does not read, also of one that comes with a GET.
_OF_A_BODY: Final = "body_size"
#: Whose arguments all stand in the path and the query.
_WITHOUT_BODIES: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def bound_again(call: ToolCall, entry: Entry, hidden: Hidden) -> tuple[ToolCall, Hidden]:
    """The call with the tool and the arguments as `entry` has them, and what is not known of it.

    Raises Refused for arguments that the entry does not take, however they came.
    """
    now = call._replace(tool=_as_said(call, entry.tool))
    types = entry.args
    if hidden.covers("args"):
        return now, hidden
    is_rest = call.dialect == "rest"
    route = route_of(entry) if is_rest else None
    in_path = route.parameters if route is not None else ()
    is_text = is_rest and call.http.method in _WITHOUT_BODIES
    if types is None:
        surely = call.args if is_text else in_path
        texts = {
            name: _alone(text)
            for name in surely
            if name != _OF_A_BODY
            and (text := _text_of(call.args.get(name), call.tool.declared)) is not None
        }
        return now._replace(args={**call.args, **texts}) if texts else now, hidden
    unknown = {path[0] for path in hidden.arguments if path} & types.names & call.args.keys()
    doubtful: set[ArgumentPath] = set()
    values: dict[str, Any] = {}
    textual: set[str] = set()
    for name, value in call.args.items():
        values[name] = value
        if not is_rest or name in unknown:
            continue
        text = _text_of(value, call.tool.declared)
        fits = types.takes(name, value, is_text=False)
        if name in in_path or is_text:
            if text is not None:
                values[name] = text if types.is_list(name) else _alone(text)
                textual.add(name)
        elif not fits and text is not None and types.takes(name, _alone(text), is_text=True):
            doubtful.add((name,))
    unknown.update(path[0] for path in doubtful)
    known = {name: value for name, value in values.items() if name not in unknown}
    bound = types.without(unknown).bind(known, textual)
    args = {name: values[name] if name in unknown else bound[name] for name in values}
    if doubtful:
        hidden = Hidden(hidden.facts, hidden.arguments | doubtful)
    return now._replace(args=args), hidden


def _as_said(call: ToolCall, tool: Tool) -> Tool:
    """Who only asks may have said that his call changes something, which counts."""
    said = call.beside if call.dialect == _AUTHORIZE else None
    if tool.mutates or said is None or said.get("mutates_state") is not True:
        return tool
    return replace(tool, mutates=True)


def route_of(entry: Entry) -> Route | None:
    """The route of a tool, if it has one."""
    return _parsed(entry.route) if entry.route is not None else None


@lru_cache(maxsize=4096)
def _parsed(route: str) -> Route:
    return parse_route(route)


def _text_of(value: Any, was_declared: bool) -> Any:
    """The text, or the texts, that a value was made of if it came as text; None if that cannot be
    told. Of a tool nobody had declared no text was read as anything else."""
    if isinstance(value, list):
        texts = [_text_of(one, was_declared) for one in value]
        return None if None in texts or not texts else texts
    if isinstance(value, str):
        return value
    if not was_declared:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else None


def _alone(text: Any) -> Any:
    """A text that was the only one of a list stands alone where no list is declared."""
    return text[0] if isinstance(text, list) and len(text) == 1 else text
