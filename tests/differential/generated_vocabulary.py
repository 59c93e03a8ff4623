"""The words everything generated is made of: few, so that values meet often.

Knows: plain values, and how to choose among them. Must not know: what is made of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

#: What the arguments of a call are, wherever a catalogue declares them. `strings` is `[string]`.
ARGUMENTS = {
    "amount": "int", "number": "int", "to": "string", "path": "string", "url": "string",
    "note": "string", "force": "bool", "tags": "strings", "ratio": "number", "meta": "map",
    "x": "any", "y": "any",
}  # fmt: skip
DECLARED = {"int": "int", "string": "string", "bool": "bool", "strings": "[string]",
            "number": "number", "map": "object", "any": "any"}  # fmt: skip
WORDS = ("a", "b", "web", "main", "agent/x", "Agent/X", "1", "é", "")
PATHS = (
    "/srv/work/a", "/srv/work", "/srv/work-old/a", "/srv//work/b", "/srv/work/../x", "/srv/./a",
    "/etc/passwd", "srv/work/a", "/", "",
)  # fmt: skip
URLS = (
    "https://github.com/x", "http://API.GitHub.com:8080/", "https://evilgithub.com", "ftp://acme.io",
    "https://user@acme.io/", "https://acme.io\\@github.com/", "http://2130706433/", "http://0x7f.1/",
    "http://10.0.0.1/a", "https://[::1]/", "https://a.acme.io?q=1", "acme.io", "https://gith%75b.com",
    "https://acmé.io/",
)  # fmt: skip
DOMAINS = ("github.com", "acme.io", "io")
VALUES: dict[str, tuple[Any, ...]] = {
    "int": (0, 1, 2, 3, 5, 100, 101, -1, 2**53),
    "string": WORDS,
    "bool": (True, False),
    "strings": ([], ["a"], ["a", "b"], ["web", "main"], ["agent/x", "a"]),
    "number": (0, 1, 1.0, 1.5, 2, 2.5, 0.1, -0.5, 0.1234567),
    "map": ({}, {"a": 1}, {"a": "a", "b": True}, {"b": None}, {"a": {"b": 1}}),
    "any": (None, True, 1, 1.0, 1.5, "1", "a", ["a"], {"a": 1}),
}
#: What an argument holds when it holds the wrong thing.
WRONG: tuple[Any, ...] = (
    None, True, "true", 0, 1, "7", 1.5, [], ["a", 1], [1, 2.0], {}, {"a": 1}, [None], [["a"]],
)  # fmt: skip
#: So much that conditions are evaluated with care for the time they take.
LONG: dict[str, tuple[Any, ...]] = {
    "string": ("agent/" + "x" * 1500, "b" * 1100 + "a"),
    "strings": (["web", "agent/x"] * 30, ["b"] * 40 + ["a"]),
    "map": ({f"k{number}": number for number in range(40)} | {"a": 1},),
}
WHO = {
    "agent": ("coder", "ci-7", "reviewer", "Coder"),
    "team": ("platform", "finance", ""),
    "environment": ("production", "staging", ""),
    "tenant": ("acme", "other"),
}
WHO_GLOBS = {
    "agents": ("coder", "c*", "ci-*", "*er", "*"),
    "teams": ("platform", "*f*", "fin*"),
    "environments": ("prod*", "staging", "*g"),
    "tenants": ("acme", "oth*"),
}
CLAIMS: dict[str, tuple[Any, ...]] = {"sub": ("ana", "bo"), "level": (1, 2, "2"), "admin": (True,)}
LABELS = ("reads-private", "sends-external", "moves-money", "writes-code")
METHODS = ("GET", "POST", "PUT", "DELETE")
CIDRS = ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8", "0.0.0.0/0")
ADDRESSES = ("10.1.2.3", "11.1.2.3", "192.0.2.7", "192.0.2.8", "fd00::1", "fe80::1",
             "::ffff:10.1.2.3")  # fmt: skip
HEADERS = {"x-mode": ("raw", "plain"), "x-team": ("web", "b")}
ZONES = ("Europe/Berlin", "UTC", "America/New_York", "Asia/Kolkata")
DAYS = ("mon-fri", "sat,sun", "mon-sun", "fri", "mon,wed-thu", "sun")
HOURS = ("09:00-17:00", "22:00-06:00", "00:00-24:00", "23:30-00:30", "02:00-03:00", "12:00-00:00")
TOOL_GLOBS = ("*", "files/*", "*/read", "*e*", "pay/*", "github/unknown")
APPROVERS = ("finance", "security", "ana", "on-call")
DETECTORS = ("card_number", "iban", "email", "api_key", "private_key")
POLICY_NAMES = ("a", "a-b", "a0", "b", "trust", "zz", "team-x", "b-1")
RULE_IDS = ("a", "b", "r1", "r10", "r2", "z", "a-1", "no-x", "ask", "reads")
#: Operations of an upstream by its kind; those of rest have a route.
OPERATIONS = {
    "mcp": ("read", "write", "drop", "send", "list_items", "refund", "unknowns",
            "mcp:prompts/get", "mcp:resources/read"),
    "rest": ("get_issue", "put_file", "search", "create", "remove", "read"),
}  # fmt: skip
ROUTES = {
    "get_issue": "GET /issues/{number}", "put_file": "PUT /files", "search": "HEAD /search",
    "create": "POST /create", "remove": "DELETE /things", "read": "OPTIONS /read",
}  # fmt: skip
#: What nobody declares.
UNDECLARED = ("other", "push_other", "mcp:ping", "mcp:sampling/createMessage", "mcp:resources/read")


def one_or_several(chance: random.Random, values: Sequence[Any]) -> Any:
    """One value, or a list of some."""
    if chance.random() < 0.4:
        return chance.choice(values)
    return chance.sample(list(values), chance.randint(1, min(3, len(values))))
