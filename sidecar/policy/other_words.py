"""Keys by the names that they have elsewhere: what is most likely meant by them.

Knows: what people write who come from other policy languages, and where the same stands here.
Where letters alone decide, such a key leads astray: `condition` is near to `obligations`.
Must not know: which keys there are, files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _all(hint: str, *words: str) -> dict[str, str]:
    return dict.fromkeys(words, hint)


def _meant(key: str) -> str:
    return f'did you mean "{key}"?'


_CALL: Final = {
    **_all(_meant("call"), "tool", "tools"),
    **_all(_meant("args"), "arguments", "argument", "params", "parameters", "input"),
}

#: By what has the keys, as messages name it, and the key that was written.
_HINTS: Final[Mapping[str, Mapping[str, str]]] = {
    "a policy": {
        **_all(_meant("policy"), "name", "id"),
        **_all("`default` is a setting of sidecar.yaml", "default"),
        **_all("a file says no version: leave it out", "version", "apiVersion"),
        **_all(
            "tools are declared in a file of their own, which begins with `catalogue:`",
            "tools", "catalogue",
        ),
    },
    "a rule": {
        **_all(_meant("when"), "condition", "conditions", "if", "expression", "where", "match"),
        **_all(_meant("id"), "name", "rule"),
        **_all(_meant("effect"), "action", "decision", "then"),
        **_all(_meant("tools"), "operation", "operations", "upstream", "upstreams", "resource",
               "resources"),
        **_all(_meant("reason"), "message", "msg"),
        **_all(_meant("limits"), "rate_limit", "ratelimit", "rate", "throttle"),
        **_all(_meant("agents"), "user", "users", "principal", "principals", "subject"),
        **_all("`reason` is what people read; what only you read is a comment, behind #",
               "description", "comment", "title"),
        **_all("arguments are compared under `when`: args.NAME == …",
               "args", "arguments", "params", "parameters"),
        **_all("what the run has read stands under `run`: {trust: …}", "trust"),
        **_all("order means nothing: every rule is looked at, and the strictest wins",
               "priority", "order", "weight"),
        **_all("take the rule out, or put `mode: shadow` in it: judged, and never decides",
               "enabled", "disabled", "active"),
        **_all("it stands under `approval`", "approvers", "quorum", "expires"),
        **_all("it stands under `obligations`", "redact", "max_response", "headers"),
    },
    "`approval`": {
        **_all(_meant("approvers"), "group", "groups", "approver", "by", "from"),
        **_all(_meant("expires"), "timeout", "ttl", "expiry", "within"),
        **_all(_meant("quorum"), "count", "min", "minimum", "number"),
    },
    "a limit": {
        **_all(_meant("max"), "limit", "rate", "count", "requests", "calls"),
        **_all(_meant("window"), "period", "interval", "every", "duration", "within"),
        **_all(_meant("per"), "by", "key"),
    },
    "a tool": {
        **_all(_meant("args"), "arguments", "params", "parameters", "properties", "inputSchema"),
        **_all(_meant("returns"), "trust"),
        **_all("written as one: `route: POST /path/{name}`",
               "method", "methods", "path", "url", "endpoint"),
        **_all("that is `mutates: false`", "readonly", "read_only", "readOnly", "readOnlyHint"),
        **_all("what only you read is a comment, behind #", "description", "comment"),
    },
    "a call": _CALL,
    "a case": {
        **_CALL,
        **_all(_meant("expect"), "effect", "expected", "result", "decision"),
        **_all(_meant("by"), "rule"),
    },
    "a detection": {
        **_all(_meant("at_least"), "threshold", "count"),
        **_all(_meant("within"), "window", "period"),
        **_all(_meant("by"), "per", "group_by"),
        **_all(_meant("respond"), "action", "response"),
    },
}  # fmt: skip


#: By what lacks a key, and the key: how it is written.
_WANTED: Final[Mapping[tuple[str, str], str]] = {
    ("a policy", "rules"): "a list: rules: [{id: …, effect: …, tools: …}]",
    ("a rule", "id"): "a name that no other rule of the policy has, e.g. id: no-large-refunds",
    ("a rule", "tools"): 'e.g. tools: shop/refund, or "*" for every tool',
    ("a limit", "max"): "how many there may be in the window, e.g. max: 60",
    ("a limit", "window"): "in what time, e.g. window: 1m",
    ("a test file", "cases"): "a list: cases: [{name: …, call: …, expect: …}]",
    ("a case", "name"): "what it shows, e.g. name: large refunds ask",
    ("a case", "call"): "a tool, e.g. call: shop/refund, or {method: …, path: …, body: …}",
    ("a case", "expect"): "allow, deny or require_approval",
    ("a call", "call"): "a tool, e.g. call: shop/refund, or {method: …, path: …, body: …}",
    ("a detection", "severity"): "info, low, medium, high or critical",
}


def how_written(what: str, key: str) -> str:
    """A hint for a key that `what` has to have and does not, or ""."""
    return _WANTED.get((what, key), "")


def other_word(what: str, key: str) -> str:
    """A hint for a key that `what` ("a rule") does not have, or ""."""
    return _HINTS.get(what, {}).get(key, "")
