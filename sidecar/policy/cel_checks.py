"""What a compiled condition is checked for before it may judge: traps that type-check.

Knows: which names and arguments a tree reads; loop variables that hide our names, patterns and
time zones that are no literals, wrong literals, patterns too slow to use, ranks compared with
numbers, comparisons that are easily wrong.
Must not know: the CEL library (a `Literals` judges literals for it), files, rules.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecar.model import TrustLevel
from sidecar.policy.calendar_values import never
from sidecar.policy.cel_hints import hint_for
from sidecar.policy.cel_literals import Literals
from sidecar.policy.cel_tree import CALL, CONSTANT, IDENTIFIER, LIST, LOOP, SELECT, Term
from sidecar.policy.cel_truth import wanted_names
from sidecar.policy.empty_lists import unfilled
from sidecar.policy.facts import FACTS, MEASURED, RANKS, ROOTS, RUN
from sidecar.policy.pattern_anchors import is_held_to_the_whole
from sidecar.policy.pattern_costs import PREPARE_NS_MAX, pattern_cost
from sidecar.policy.text_openings import OPENINGS, openings
from sidecar.policy.untyped_values import EQUALITIES, Untyped, untyped

#: Says what is wrong with a literal argument of a function, "" if nothing.
JudgeLiteral = Callable[[str, str], str]

#: The function that counts a run's earlier calls.
COUNT = f"{RUN}count"

_COMPARISONS = frozenset({"_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_"})
#: On which of two scales a rank stands.
_SCALES = {
    name: "trust" if fact.ranks is TrustLevel else "risk"
    for name, fact in FACTS.items()
    if fact.ranks is not None
} | {name: name.partition(".")[0] for name in FACTS if name.startswith(("trust.", "risk."))}
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


class BadExpression(Exception):
    """An expression that does not compile; `findings` say why."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = tuple(findings)


@dataclass(slots=True)
class Reading:
    """What an expression reads and what was found in it. `run` are the names of the run it reads
    (`run.count` among them), each with the place where it does first; `tested` are the arguments
    that stand in has(), `sought` those of which it is asked whether they are there, in whatever
    way. `mentions` counts how often each argument is read, `compared` gives the types of the
    constants it is compared with. `reads_all_arguments` tells of anything that is done with `args`
    as a whole."""

    names: set[str] = field(default_factory=set)
    arguments: dict[str, int] = field(default_factory=dict)
    run: dict[str, int] = field(default_factory=dict)
    tested: set[str] = field(default_factory=set)
    sought: set[str] = field(default_factory=set)
    mentions: dict[str, int] = field(default_factory=dict)
    compared: dict[str, list[type]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    literals: Literals = field(default_factory=Literals)
    reads_all_arguments: bool = False
    #: The functions and operators it calls, how many terms it has, whether there are loops.
    functions: set[str] = field(default_factory=set)
    term_count: int = 0
    has_loops: bool = False
    #: The names that have to be true where it is.
    asserted: set[str] = field(default_factory=set)
    #: Comparisons that a text gets round where an argument has no type.
    untyped: list[Untyped] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether something was found that keeps it from judging."""
        return any(not finding.is_warning for finding in self.findings)

    @property
    def inputs(self) -> frozenset[str]:
        """What it reads of a call that may be of any size: arguments one by one, if it can be
        told which, and other facts."""
        found = self.names & MEASURED
        if "args" not in found or self.reads_all_arguments:
            return frozenset(found)
        return frozenset({*found - {"args"}, *(f"args.{name}" for name in self.arguments)})


def inspect(tree: Term, judge_literal: JudgeLiteral, constants: Mapping[str, Any]) -> Reading:
    """Reads a checked tree once from top to bottom; `constants` are those it may read."""
    reading = Reading()
    terms = list(tree.walk())
    loops = {name for term in terms if term.kind == LOOP for name in term.value}
    reading.term_count, whole = len(terms), 0
    for term in terms:
        if term.kind == IDENTIFIER and term.name not in loops:
            _read_name(term, reading)
            whole += term.name == "args"
        elif term.kind == LOOP:
            reading.has_loops = True
            _check_loop(term, reading)
        elif term.kind == SELECT:
            _note_argument(term.parts[0], term.name, term.offset, reading)
            if term.value and term.parts[0].name == "args":
                reading.tested.add(term.name)
                reading.sought.add(term.name)
        elif term.kind == CALL:
            reading.functions.add(term.name)
            reading.literals.note(term, constants)
            reading.findings += [Finding(*one, is_warning=True) for one in never(term)]
            _check_call(term, reading, judge_literal, constants)
    reading.asserted = wanted_names(tree)
    for opening in () if reading.functions.isdisjoint(OPENINGS) else openings(tree, constants):
        reading.findings.append(Finding(*opening, is_warning=True, only_in_allow=True))
    for unsized in unfilled(tree) if reading.has_loops else ():
        reading.findings.append(Finding(*unsized, is_warning=True, only_in_allow=True))
    if reading.arguments and not reading.functions.isdisjoint(EQUALITIES):
        reading.untyped = untyped(tree, constants)
    reading.reads_all_arguments = whole > sum(reading.mentions.values())
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


def _check_call(
    term: Term, reading: Reading, judge_literal: JudgeLiteral, constants: Mapping[str, Any]
) -> None:
    if term.name in _INDEXED and len(term.parts) == 2 and term.parts[1].text is not None:
        _note_argument(term.parts[0], term.parts[1].text, term.offset, reading)
        if term.name != "_[_]" and term.parts[0].name == "args":
            reading.sought.add(term.parts[1].text)
    elif term.name == "@in" and len(term.parts) == 2 and term.parts[0].text is not None:
        _note_argument(term.parts[1], term.parts[0].text, term.offset, reading)
        if term.parts[1].name == "args":
            reading.sought.add(term.parts[0].text)
    elif term.name == "@in" and len(term.parts) == 2 and term.parts[1].kind == LIST:
        for member in term.parts[1].parts:
            _check_ranks(term.parts[0], member, member.offset, reading)
    elif term.name == "matches" and len(term.parts) == 2:
        _check_pattern(term, reading, judge_literal)
    elif term.name in ("timestamp", "duration", "cidr", "inDomain", "under"):
        _check_literal(term, reading, judge_literal)
    elif term.name in _COMPARISONS and len(term.parts) == 2:
        _check_comparison(term, reading)
    elif term.name[:3] == "get" and len(term.parts) == 2 and _CALENDAR.fullmatch(term.name):
        _check_zone(term, reading, constants)
    elif term.name == COUNT:
        reading.run.setdefault(COUNT, term.offset)
        _check_window(term, reading, judge_literal)


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
    prepare_ns = 0 if wrong else pattern_cost(pattern).prepare_ns
    if wrong:
        reading.findings.append(Finding(term.parts[1].offset, wrong))
    elif prepare_ns > PREPARE_NS_MAX:
        reading.findings.append(
            Finding(
                term.parts[1].offset,
                "the pattern is so large that preparing it, at every call, takes too long",
                "write fewer or smaller repeats like {1,1000}, compare size() for a length",
            )
        )
    elif not is_held_to_the_whole(pattern):
        reading.findings.append(
            Finding(
                term.offset,
                "matches() searches anywhere in the text",
                "where the whole text is meant, put ^ and $ around all of it: ^(a|b)$, no (?m)",
                is_warning=True,
                only_in_allow=True,
            )
        )


def _check_literal(term: Term, reading: Reading, judge_literal: JudgeLiteral) -> None:
    last = term.parts[-1]
    if last.text is not None:
        wrong = judge_literal(term.name, last.text)
        if wrong:
            reading.findings.append(Finding(last.offset, wrong, hint_for(last.text, wrong)))


def _check_window(term: Term, reading: Reading, judge_literal: JudgeLiteral) -> None:
    """How far `run.count` looks back; a literal that is no duration was found before."""
    window = term.parts[-1]
    text = window.parts[0].text if window.name == "duration" and window.parts else None
    if text is not None and not judge_literal("duration", text):
        wrong = judge_literal(COUNT, text)
        if wrong:
            reading.findings.append(Finding(window.parts[0].offset, wrong))


def _check_comparison(term: Term, reading: Reading) -> None:
    _check_ranks(term.parts[0], term.parts[1], term.offset, reading)
    pairs = (term.parts, term.parts[::-1])
    for one, other in pairs:
        is_member = one.kind == SELECT and not one.value and one.parts[0].kind == IDENTIFIER
        if is_member and one.parts[0].name == "args" and other.kind == CONSTANT:
            reading.compared.setdefault(one.name, []).append(type(other.value))
        if term.name == "_==_" and one.kind == CALL and one.name == "orValue":
            reading.findings.append(
                Finding(
                    term.offset,
                    "== after orValue() is false, not an error, when the types differ",
                    "declare the tool's args, or compare with whatever is not the safe value",
                    is_warning=True,
                )
            )


def _check_ranks(one: Term, other: Term, offset: int, reading: Reading) -> None:
    """Two terms that are held against each other: a rank is one of its scale, and no number."""
    scales = [_SCALES.get(part.name) for part in (one, other) if part.kind == IDENTIFIER]
    if len(scales) == 2 and None not in scales and scales[0] != scales[1]:
        message = f"{one.name} is a {scales[0]} and {other.name} a {scales[1]}"
        hint = "trust and risk are two scales: compare with trust.NAME or risk.NAME of the same"
        reading.findings.append(Finding(offset, message, hint))
    for rank, number in ((one, other), (other, one)):
        if rank.kind == IDENTIFIER and rank.name in RANKS and _is_number(number):
            reading.findings.append(
                Finding(
                    offset,
                    f"{rank.name} is compared with a number",
                    "write trust.NAME or risk.NAME: the numbers may change",
                    is_warning=True,
                )
            )


def _is_number(term: Term) -> bool:
    """A literal, or one that is converted: other numbers than `int` do not compile beside ranks."""
    if term.kind == CALL and term.name == "int" and len(term.parts) == 1:
        return term.parts[0].kind == CONSTANT
    return term.kind == CONSTANT and type(term.value) is int


def _check_zone(term: Term, reading: Reading, constants: Mapping[str, Any]) -> None:
    zone = term.parts[1]
    name = constants.get(zone.name) if zone.kind == IDENTIFIER else zone.text
    if type(name) is not str:
        reading.findings.append(
            Finding(
                zone.offset,
                "the time zone must be a literal or a constant",
                "one taken from a call would be looked for among the files of this machine",
            )
        )
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        reading.findings.append(
            Finding(zone.offset, f'"{name}" is no time zone this machine knows')
        )
