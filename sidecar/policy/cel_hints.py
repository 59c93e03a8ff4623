"""What somebody new to CEL most likely meant: a hint beside what the library says.

Knows: the library's messages in which the usual slips show, and how the same is written in CEL.
Must not know: the library itself, what a call looks like.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from sidecar.policy.fields import did_you_mean

_RANKS: Final = "trust and risk are ranks: compare with trust.NAME or risk.NAME, without quotes"
_OPERATORS: Final = "CEL writes && for and, || for or, ! for not, == for equal"
_MEMBER: Final = "whether a list holds a value is written: VALUE in LIST"
_PART: Final = "whether a text holds another is written: TEXT.contains(PART)"
_OPTIONAL: Final = "say what holds without it: args.?NAME.orValue(…), or ask has(args.NAME) first"
_ASCII: Final = "it only looks like an ASCII character: names are ASCII, quotes are \" or '"

_RANK: Final = re.compile(r"\b(trust|risk|returns)\b")
_QUOTED: Final = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
_OTHER_OPERATORS: Final = re.compile(r"\b(and|or|not|is)\b|(?<![=!<>])=(?!=)", re.IGNORECASE)
_A_LIST: Final = re.compile(r"'(contains|includes|has)' applied to '\(list\(")
_OF_OPTIONAL: Final = re.compile(r"applied to '.*\boptional_type\(")
_IN_A_TEXT: Final = re.compile(r"'@in' applied to '\((dyn|string), string\)'")
_UNREAD: Final = re.compile(r"token recognition error at: '(.)")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_ADDED: Final = ("host", "inDomain", "under", "glob", "cidr", "containsIP", "matches", "has")
#: The library's own, suggested for what is nearly the same only.
_BUILT_IN: Final = (
    "all", "exists", "filter", "map", "size", "contains", "startsWith", "endsWith", "lowerAscii",
    "upperAscii", "orValue", "hasValue", "replace", "getHours", "duration", "timestamp",
)  # fmt: skip
_NEARLY: Final = 0.8


def hint_for(text: str, what: str) -> str:
    """A hint for what the library says of an expression, or ""."""
    unread = _UNREAD.search(what)
    if unread is not None and not unread[1].isascii():
        return _ASCII
    if what.startswith("Syntax error"):
        is_other_language = _OTHER_OPERATORS.search(_QUOTED.sub("", text)) is not None
        return _OPERATORS if is_other_language else ""
    if "no matching overload" not in what:
        return ""
    if "int, string" in what and _RANK.search(text):
        return _RANKS
    if _OF_OPTIONAL.search(what):
        return _OPTIONAL
    if _IN_A_TEXT.search(what):
        return _PART
    return _MEMBER if _A_LIST.search(what) else ""


def hint_for_missing(text: str, missing: str, start: int, names: Iterable[str]) -> str:
    """A hint for a name at `start` that there is none of, or ""."""
    close = difflib.get_close_matches(missing, _BUILT_IN, n=1, cutoff=_NEARLY)
    near = f'did you mean "{close[0]}"?' if close else did_you_mean(missing, [*names, *_ADDED])
    if near or not _PLAIN_NAME.fullmatch(missing):
        return near
    before, after = text[:start].rstrip(), text[start + len(missing) :].lstrip()
    is_alone = not before.endswith(".") and not after.startswith(("(", "."))
    return f"an argument of the call is read as args.{missing}" if is_alone else ""
