"""Whether a rule's matchers take a call, each key by itself: different keys are *and*, the values
of one key are *or*.

Knows: the table of rules in section 2 of LANGUAGE.md. Must not know: the product, what follows
from a match.
"""

from __future__ import annotations

import re
from typing import Any

from twin_catalogue import Facts, as_list
from twin_functions import glob, in_network
from twin_values import RISKS, TRUSTS, local_time

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WHO = {"agents": "agent", "teams": "team", "environments": "environment", "tenants": "tenant"}


def meets_tool(rule: dict[str, Any], tool: Facts) -> bool:
    """`tools`, `except`, `mutates`, `labels`, `risk`: what does not hang on the call."""
    is_allow = rule.get("effect") == "allow"
    if "mutates" in rule and rule["mutates"] != tool.mutates:
        return False
    if "labels" in rule and not set(as_list(rule["labels"])) & set(tool.labels):
        return False
    if "risk" in rule:
        level = RISKS.index(rule["risk"])
        if tool.risk > level if is_allow else tool.risk < level:
            return False
    covers = _allow_covers if is_allow else _covers
    for pattern in as_list(rule.get("except")):
        if _covers(pattern, tool):
            return False
    return any(covers(pattern, tool) for pattern in as_list(rule["tools"]))


def _covers(pattern: str, tool: Facts) -> bool:
    return glob(tool.name, pattern)


def _allow_covers(pattern: str, tool: Facts) -> bool:
    """`*` never covers `unknown` or `mcp:…`: the pattern's own operation must write them out."""
    upstream, _, operation = pattern.partition("/")
    if tool.operation != "unknown" and not tool.is_method:
        return glob(tool.name, pattern)
    written_out = operation.startswith("mcp:" if tool.is_method else "unknown")
    return written_out and glob(tool.upstream, upstream) and glob(tool.operation, operation)


def meets_caller(narrowing: dict[str, Any], principal: dict[str, Any]) -> bool:
    """`agents`, `teams`, `environments`, `tenants` of a rule, or of its file."""
    for key, fact in WHO.items():
        if key in narrowing:
            globs = as_list(narrowing[key])
            if not any(glob(principal[fact], pattern) for pattern in globs):
                return False
    return True


def meets_call(rule: dict[str, Any], http: dict[str, Any], now_us: int) -> bool:
    """`methods`, `sources`, `during`, `outside`."""
    if "methods" in rule and http["method"] not in as_list(rule["methods"]):
        return False
    if "sources" in rule and not any(
        in_network(http["source_ip"], cidr) for cidr in as_list(rule["sources"])
    ):
        return False
    if "during" in rule and not any(is_inside(one, now_us) for one in as_list(rule["during"])):
        return False
    return not any(is_inside(one, now_us) for one in as_list(rule.get("outside")))


def meets_run(rule: dict[str, Any], trust: int, labels: list[str]) -> bool:
    """`run`: what it had gathered before this call."""
    wanted = rule.get("run", {})
    if "labels" in wanted and not set(as_list(wanted["labels"])) & set(labels):
        return False
    if "trust" in wanted:
        level = TRUSTS.index(wanted["trust"])
        return trust >= level if rule.get("effect") == "allow" else trust <= level
    return True


def is_inside(window: str, now_us: int) -> bool:
    """`mon-fri 22:00-06:00 Europe/Berlin`: a window over midnight begins on the days named."""
    days, hours, zone = window.split()
    begin, end = (_minute(text) for text in hours.split("-"))
    local = local_time(now_us, zone)
    minute = local.hour * 60 + local.minute
    today, yesterday = local.weekday(), (local.weekday() - 1) % 7
    if begin < end:
        return today in _days(days) and begin <= minute < end
    begun_today = today in _days(days) and minute >= begin
    return begun_today or (yesterday in _days(days) and minute < end)


def _minute(text: str) -> int:
    found = re.fullmatch(r"(\d\d):(\d\d)", text)
    assert found is not None
    return int(found[1]) * 60 + int(found[2])


def _days(text: str) -> set[int]:
    named: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        day = DAYS.index(first)
        named.add(day)
        while day != DAYS.index(last or first):
            day = (day + 1) % 7
            named.add(day)
    return named
