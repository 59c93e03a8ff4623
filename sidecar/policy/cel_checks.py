"""What a compiled condition is checked for before it may judge: traps that type-check.

Knows: which names and arguments a tree reads; loop variables that hide our names, patterns that
are no literals, wrong literals, ranks compared with numbers, comparisons that are easily wrong.
Must not know: the CEL library (a `Literals` judges literals for it), files, rules.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.policy.cel_tree import CALL, CONSTANT, IDENTIFIER, LOOP, SELECT, Term
from sidecar.policy.facts import RANKS, ROOTS, RUN

#: Says what is wrong with a literal argument of a function, "" if nothing.
JudgeLiteral = Callable[[str, str], str]

#: The function that counts a run's earlier calls.
COUNT = f"{RUN}count"

_COMPARISONS = frozenset({"_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_"})
_ANCHORED = re.compile(r"(\(\?[imsU]+\))?\^.*\$", re.DOTALL)
_INDEXED = frozenset({"_[_]", "_?._", "_[?_]"})
_CALENDAR = re.compile(
    r"get(Date|DayOfMonth|DayOfWeek|DayOfYear|FullYear|Hours|Milliseconds|Minutes|Month|Seconds)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about an expression, at a character offset of its text."""

    offset: int
    message: str
    hint: str = ""
    is_warning: bool = False
    only_in_allow: bool = False


@dataclass(slots=True)
class Reading:
    """What an expression reads and what was found in it. `run` are the names of the run it reads
    (`run.count` among them), each with the place where it does first; `tested` are the arguments
    that stand in has(). `mentions` counts how often each argument is read, `compared` gives the
    types of the constants it is compared with."""

    names: set[str] = field(default_factory=set)
    arguments: dict[str, int] = field(default_factory=dict)
    run: dict[str, int] = field(default_factory=dict)
    tested: set[str] = field(default_factory=set)
    mentions: dict[str, int] = field(default_factory=dict)
    compared: dict[str, list[type]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def inspect(tree: Term, judge_literal: JudgeLiteral) -> Reading:
    """Reads a checked tree once from top to bottom."""
    reading = Reading()
    loops = {name for term in tree.walk() if term.kind == LOOP for name in term.value}
    for term in tree.walk():
        if term.kind == IDENTIFIER and term.name not in loops:
            _read_name(term, reading)
        elif term.kind == LOOP:
            _check_loop(term, reading)
        elif term.kind == SELECT:
            _note_argument(term.parts[0], term.name, term.offset, reading)
            if term.value:
                reading.tested.add(term.name)
        elif term.kind == CALL:
            _check_call(term, reading, judge_literal)
    return reading


def _read_name(term: Term, reading: Reading) -> None:
    reading.names.add(term.name)
    if term.name.startswith(RUN):
        reading.run.setdefault(term.name, term.offset)


def _check_loop(term: Term, reading: Reading) -> None:
    for name in term.value:
        if name in ROOTS:
            reading.findings.append(
                Finding(term.offset, f'"{name}" is a name of ours and cannot be a loop variable')
            )


def _note_argument(target: Term, name: str, offset: int, reading: Reading) -> None:
    if target.kind == IDENTIFIER and target.name == "args":
        reading.arguments.setdefault(name, offset)
        reading.mentions[name] = reading.mentions.get(name, 0) + 1


def _check_call(term: Term, reading: Reading, judge_literal: JudgeLiteral) -> None:
    if term.name in _INDEXED and len(term.parts) == 2 and term.parts[1].text is not None:
        _note_argument(term.parts[0], term.parts[1].text, term.offset, reading)
    elif term.name == "@in" and len(term.parts) == 2 and term.parts[0].text is not None:
        _note_argument(term.parts[1], term.parts[0].text, term.offset, reading)
    elif term.name == "matches" and len(term.parts) == 2:
        _check_pattern(term, reading, judge_literal)
    elif term.name in ("timestamp", "duration", "cidr", "inDomain", "under"):
        _check_literal(term, reading, judge_literal)
    elif term.name in _COMPARISONS and len(term.parts) == 2:
        _check_comparison(term, reading)
    elif _CALENDAR.fullmatch(term.name) and len(term.parts) == 2:
        _check_zone(term, reading)
    elif term.name == COUNT:
        reading.run.setdefault(COUNT, term.offset)


def _check_pattern(term: Term, reading: Reading, judge_literal: JudgeLiteral) -> None:
    pattern = term.parts[1].text
    if pattern is None:
        reading.findings.append(
            Finding(
                term.offset,
                "the pattern of matches() must be a literal",
                "a pattern taken from a call has no bound on its cost; use glob() or ==",
            )
        )
        return
    wrong = judge_literal("matches", pattern)
    if wrong:
        reading.findings.append(Finding(term.parts[1].offset, wrong))
    elif not _ANCHORED.fullmatch(pattern):
        reading.findings.append(
            Finding(
                term.offset,
                "matches() searches anywhere in the text",
                "begin the pattern with ^ and end it with $ where the whole text is meant",
                is_warning=True,
                only_in_allow=True,
            )
        )


def _check_literal(term: Term, reading: Reading, judge_literal: JudgeLiteral) -> None:
    last = term.parts[-1]
    if last.text is not None:
        wrong = judge_literal(term.name, last.text)
        if wrong:
            reading.findings.append(Finding(last.offset, wrong))


def _check_comparison(term: Term, reading: Reading) -> None:
    pairs = (term.parts, term.parts[::-1])
    for one, other in pairs:
        is_member = one.kind == SELECT and not one.value and one.parts[0].kind == IDENTIFIER
        if is_member and one.parts[0].name == "args" and other.kind == CONSTANT:
            reading.compared.setdefault(one.name, []).append(type(other.value))
        is_number = other.kind == CONSTANT and type(other.value) is int
        if one.kind == IDENTIFIER and one.name in RANKS and is_number:
            reading.findings.append(
                Finding(
                    term.offset,
                    f"{one.name} is compared with a number",
                    "write trust.NAME or risk.NAME: the numbers may change",
                    is_warning=True,
                )
            )
        if term.name == "_==_" and one.kind == CALL and one.name == "orValue":
            reading.findings.append(
                Finding(
                    term.offset,
                    "== after orValue() is false, not an error, when the types differ",
                    "declare the tool's args, or compare with whatever is not the safe value",
                    is_warning=True,
                )
            )


def _check_zone(term: Term, reading: Reading) -> None:
    name = term.parts[1].text
    if name is None:
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        reading.findings.append(
            Finding(term.parts[1].offset, f'"{name}" is no time zone this machine knows')
        )
