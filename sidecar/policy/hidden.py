"""What a rule reads of a call, against what is not known of it: a recorded call was redacted.

Knows: which facts and which arguments a rule's matchers and condition read, found in the compiled
expression; that the value of a masked argument is not known although its name is.
Must not know: records, what is done about a rule that cannot be judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar.policy.cel_tree import CALL, IDENTIFIER, SELECT, Term, decode
from sidecar.policy.rule import Rule
from sidecar.policy.secret_names import MASK

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition

#: The names that lead to an argument; () stands for all arguments together.
ArgumentPath = tuple[str, ...]

_ALL: Final[ArgumentPath] = ()
_INDEXED = frozenset({"_[_]", "_?._", "_[?_]"})
#: Matchers that are settled by the call, with the fact each reads.
_READ_BY_MATCHERS = {
    "methods": "http.method",
    "sources": "http.source_ip",
    "during": "now",
    "outside": "now",
}


@dataclass(frozen=True, slots=True)
class Reads:
    """What judging one rule needs to know of a call, beside tool and caller."""

    facts: frozenset[str]
    arguments: frozenset[ArgumentPath]


@dataclass(frozen=True, slots=True)
class Hidden:
    """What is not known of a call: facts by name, arguments by path."""

    facts: frozenset[str] = frozenset()
    arguments: frozenset[ArgumentPath] = frozenset()

    def of(self, reads: Reads) -> tuple[str, ...]:
        """What a rule would need and is hidden, as conditions write it, sorted."""
        found = set(self.facts & reads.facts)
        for wanted in reads.arguments:
            for path in self.arguments:
                if path[: len(wanted)] == wanted or wanted[: len(path)] == path:
                    longer = max(path, wanted, key=len)
                    found.add(".".join(("args", *longer)))
        return tuple(sorted(found))

    def covers(self, name: str) -> bool:
        """Whether the value of a fact, or of `args.NAME`, is hidden as a whole."""
        if name in self.facts or (name.startswith("args") and _ALL in self.arguments):
            return True
        return tuple(name.split(".")[1:]) in self.arguments if name.startswith("args.") else False


NOTHING_HIDDEN: Final = Hidden()


class ReadsOfRules:
    """Works out what each rule reads, once."""

    def __init__(self) -> None:
        self._known: dict[Rule, Reads] = {}

    def __call__(self, rule: Rule) -> Reads:
        """What the rule reads."""
        found = self._known.get(rule)
        if found is None:
            found = self._known[rule] = reads_of(rule)
        return found


def reads_of(rule: Rule) -> Reads:
    """What the rule's matchers and its condition, with all variables, read of a call."""
    facts = {fact for key, fact in _READ_BY_MATCHERS.items() if getattr(rule, key)}
    facts |= rule.run_names
    arguments: set[ArgumentPath] = set()
    for expression in rule.expressions:
        read = reads_of_condition(expression)
        facts |= read.facts
        arguments |= read.arguments
    return Reads(frozenset(facts), frozenset(arguments))


def reads_of_condition(condition: Condition) -> Reads:
    """What a condition, with all variables, reads of a call."""
    arguments: set[ArgumentPath] = set()
    expressions = [condition.expression, *(one.expression for one in condition.variables)]
    for expression in expressions:
        arguments.update(argument_paths(decode(expression.serialize())))
    return Reads(condition.facts - {"args"} | condition.run, frozenset(arguments))


def argument_paths(term: Term) -> Iterator[ArgumentPath]:
    """The arguments whose values a tree reads. Asking for a name alone (`has(args.x)`,
    `"x" in args`) reads no value."""
    holder = _presence_of(term)
    path = _path(holder if holder is not None else term)
    if path is None:
        for part in term.parts:
            yield from argument_paths(part)
    elif holder is None or path:
        yield path


def _presence_of(term: Term) -> Term | None:
    """What `has(…)` and `"x" in …` look into."""
    if term.kind == SELECT and term.value:
        return term.parts[0]
    if term.kind == CALL and term.name == "@in" and term.parts[0].text is not None:
        return term.parts[1]
    return None


def _path(term: Term) -> ArgumentPath | None:
    """The way from `args` down to what a term names, if it is one."""
    if term.kind == IDENTIFIER:
        return _ALL if term.name == "args" else None
    if term.kind == SELECT and not term.value:
        above = _path(term.parts[0])
        return None if above is None else (*above, term.name)
    if term.kind == CALL and term.name in _INDEXED and len(term.parts) == 2:
        name = term.parts[1].text
        above = _path(term.parts[0]) if name is not None else None
        return None if above is None or name is None else (*above, name)
    return None


def masked_arguments(args: Mapping[str, Any]) -> frozenset[ArgumentPath]:
    """The arguments whose recorded value is a mask; inside of a list, the list."""
    found: set[ArgumentPath] = set()
    pending: list[tuple[ArgumentPath, Any, bool]] = [((), args, False)]
    while pending:
        path, value, is_listed = pending.pop()
        if value == MASK:
            found.add(path)
        elif isinstance(value, Mapping):
            pending += [
                (path if is_listed else (*path, name), member, is_listed)
                for name, member in value.items()
            ]
        elif isinstance(value, list):
            pending += [(path, member, True) for member in value]
    return frozenset(found)
