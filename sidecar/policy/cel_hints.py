"""What somebody new to CEL most likely meant: a hint beside what the library says.

Knows: the library's messages in which the usual slips show, and how the same is written in CEL.
Must not know: the library itself, what a call looks like.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sidecar.policy.fields import did_you_mean

if TYPE_CHECKING:
    from sidecar.policy.cel_checks import Finding

_RANKS: Final = "trust and risk are ranks: compare with trust.NAME or risk.NAME, without quotes"
_OPERATORS: Final = "CEL writes && for and, || for or, ! for not, == for equal"
_MEMBER: Final = "whether a list holds a value is written: VALUE in LIST"
_PART: Final = "whether a text holds another is written: TEXT.contains(PART)"
_OPTIONAL: Final = "say what holds without it: args.?NAME.orValue(…), or ask has(args.NAME) first"
_ASCII: Final = "it only looks like an ASCII character: names are ASCII, quotes are \" or '"

_SIZE: Final = "how long a text or list is, is written: size(VALUE)"
_COUNT: Final = 'calls of this run are counted so: run.count("mail/*", duration("1h"))'
_LITERAL: Final = "CEL writes true, false and null"
_RAW: Final = "\\ begins an escape in a text of CEL: write a pattern as r'…'"
_CUT: Final = (
    "a quote is never closed; where YAML took ` #` for a comment, put the whole in quotes or on "
    "the next line under `when: |`"
)
_A_LIST_LITERAL: Final = "a list stands in brackets: [A, B]"
_WHOLE: Final = "it ends before it is whole: something is missing behind its last word"
_PLACEHOLDER: Final = "an argument is read as args.NAME, without braces or $"
_DURATION: Final = 'e.g. duration("5m"); units are h, m, s and ms'
_MOMENT: Final = 'e.g. timestamp("2026-11-23T10:00:00Z")'
#: Behind these the rest of an expression is read askew, and what is said of it misleads.
_ENDS_THE_READING: Final = frozenset({_RAW, _CUT, _PLACEHOLDER})

_RANK: Final = re.compile(r"\b(trust|risk|returns)\b")
_QUOTED: Final = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
_OTHER_OPERATORS: Final = re.compile(
    r"\b(and|or|not|is)\b|(?<![=!<>])=(?!=)|[=!]==|<>", re.IGNORECASE
)
_A_LIST: Final = re.compile(r"'(contains|includes|has)' applied to '\(list\(")
_OF_OPTIONAL: Final = re.compile(r"applied to '.*\boptional_type\(")
_IN_A_TEXT: Final = re.compile(r"'@in' applied to '\((dyn|string), string\)'")
_UNREAD: Final = re.compile(r"token recognition error at: '(.)", re.DOTALL)
#: What the library could not read of a text, up to an escape that CEL does not have.
_BAD_ESCAPE: Final = re.compile(
    r"token recognition error at: '[\"'](?:[^\\]|\\.)*\\[^abfnrtvxXuU0-3\\'\"`?]'$"
)
_TUPLE: Final = re.compile(r"\bin\s*\(")
_A_PLACEHOLDER: Final = re.compile(r"\$\{|\{\{")
_COMPARED_WITH: Final = ("==", "!=", "[", ",")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_ADDED: Final = ("host", "inDomain", "under", "glob", "cidr", "containsIP", "matches", "has")
#: The library's own, suggested for what is nearly the same only.
_BUILT_IN: Final = (
    "all", "exists", "filter", "map", "size", "contains", "startsWith", "endsWith", "lowerAscii",
    "upperAscii", "orValue", "hasValue", "replace", "getHours", "duration", "timestamp",
)  # fmt: skip
_NEARLY: Final = 0.8
_LITERALS: Final = frozenset({"None", "True", "False", "TRUE", "FALSE", "NULL", "nil"})
#: What other languages call functions that CEL has by another name.
_ELSEWHERE: Final = {
    **dict.fromkeys(("len", "length", "count", "strlen"), _SIZE),
    **dict.fromkeys(("lower", "toLower", "tolower", "toLowerCase"), 'did you mean "lowerAscii"?'),
    **dict.fromkeys(("upper", "toUpper", "toupper", "toUpperCase"), 'did you mean "upperAscii"?'),
    **dict.fromkeys(("includes", "has_substring", "indexOf"), _PART),
    **dict.fromkeys(("regex", "match", "test", "like", "re"), 'did you mean "matches"?'),
}


def hint_for(text: str, what: str) -> str:
    """A hint for what the library says of an expression, or ""."""
    unread = _UNREAD.search(what)
    if unread is not None and not unread[1].isascii():
        return _ASCII
    if what.startswith("Syntax error"):
        if found := _hint_for_syntax(text, what, unread[1] if unread is not None else ""):
            return found
        is_other_language = _OTHER_OPERATORS.search(_QUOTED.sub("", text)) is not None
        if is_other_language:
            return _OPERATORS
        return _WHOLE if "mismatched input '<EOF>'" in what else ""
    if "to Duration conversion" in what:
        return _DURATION
    if "to Timestamp conversion" in what:
        return _MOMENT
    if "no matching overload" not in what:
        return ""
    if "int, string" in what and _RANK.search(text):
        return _RANKS
    if _OF_OPTIONAL.search(what):
        return _OPTIONAL
    if _IN_A_TEXT.search(what):
        return _PART
    return _MEMBER if _A_LIST.search(what) else ""


def _hint_for_syntax(text: str, what: str, unread: str) -> str:
    if _A_PLACEHOLDER.search(_QUOTED.sub("", text)):
        return _PLACEHOLDER
    if unread and unread in "\"'":
        return _RAW if _BAD_ESCAPE.search(what) else _CUT
    return _A_LIST_LITERAL if "input ','" in what and _TUPLE.search(text) else ""


def telling(findings: list[Finding]) -> list[Finding]:
    """Without those that only follow from the one before."""
    for number, one in enumerate(findings, 1):
        if one.hint in _ENDS_THE_READING:
            return findings[:number]
    return findings


def hint_for_missing(text: str, missing: str, start: int, names: Iterable[str]) -> str:
    """A hint for a name at `start` that there is none of, or ""."""
    before, after = text[:start].rstrip(), text[start + len(missing) :].lstrip()
    is_count = missing == "run" and after.startswith(".count(")
    if is_count or (missing == "count" and before.endswith("run.")):
        return _COUNT
    if missing in _LITERALS:
        return _LITERAL
    if missing in _ELSEWHERE and after.startswith("("):
        return _ELSEWHERE[missing]
    close = difflib.get_close_matches(missing, _BUILT_IN, n=1, cutoff=_NEARLY)
    near = f'did you mean "{close[0]}"?' if close else did_you_mean(missing, [*names, *_ADDED])
    if near or not _PLAIN_NAME.fullmatch(missing):
        return near
    is_alone = not before.endswith(".") and not after.startswith(("(", "."))
    if not is_alone:
        return ""
    read = f"an argument of the call is read as args.{missing}"
    if before.endswith(_COMPARED_WITH):
        return f'a text stands in quotes, "{missing}"; {read}'
    return read
