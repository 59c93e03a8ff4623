"""How long an expression may take on arguments of a size: an upper bound, read off its tree.

Knows: that terms add up, how large what a name stands for is, and what a turn of a loop costs. How
many turns there will be depends on more than sizes; so there are two answers. One bounds them as
well, which is enough for small calls; the other leaves them to a meter. The numbers are measured.
Must not know: the CEL library, where values come from, what follows from a cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sidecar.policy.cel_extents import (
    Around,
    Bound,
    Extent,
    Uncountable,
    extent_of,
    scalar,
    times,
    uniform,
    united,
)
from sidecar.policy.cel_function_costs import FUNCTIONS
from sidecar.policy.cel_tree import CALL, CONSTANT, IDENTIFIER, LIST, LOOP, SELECT, Term
from sidecar.policy.meter import FILL_NS
from sidecar.policy.sizes import USUAL_BYTES, USUAL_VALUES

#: An evaluation that may take longer is refused before it begins or ended by its meter, and the
#: call is denied: judging holds up every other call of the process. 5 ms is the promise, the rest
#: is for slower machines.
COST_MAX_NS: Final = 3_500_000
#: Values, bytes, and places to split at: on as much a condition needs no meter, if it is the kind
#: that cannot take too long on it.
USUAL: Final = ((USUAL_VALUES, USUAL_BYTES, 32), (12, 384, 8))
#: A condition that may take too long even on so little is refused when it is loaded.
SMALL: Final = (8, 256, 4)
#: Loops inside of loops; more are never needed, and take long to bound.
LOOPS_NESTED_MAX: Final = 5

#: To take a value out of the call and give it to the library: for each value, for each byte.
_SUPPLY_VALUE_NS: Final = 400
_SUPPLY_BYTE_NS: Final = 0.4
_SUPPLY_NS: Final = 10_000
_CONSTANT_VALUE_NS: Final = 150
_TERM_NS: Final = 60
#: To look into something; what is not there is an error, and making one takes the longest.
_LOOK_NS: Final = 600
_TURN_NS: Final = 200
#: What the meter itself takes, for each turn.
_TICK_NS: Final = 1000
_TURNS_MAX: Final = 10_000
#: A name that is not measured: a number, a short text.
_UNMEASURED_BYTES: Final = 256
_INDEXED: Final = frozenset({"_[_]", "_?._", "_[?_]"})
_CUTTING: Final = frozenset({"split", "replace"})
_WORD: Final = re.compile(r"\w+")


class Step(NamedTuple):
    """One of several expressions that are evaluated in turn. Later ones read it by its name;
    `reads` are the names it reads itself."""

    name: str
    tree: Term
    reads: frozenset[str]


class Fare(NamedTuple):
    """What a step costs beside what its meter is told of, and what one turn of each loop does."""

    ns: float
    turns: tuple[float, ...]


class Estimate:
    """The cost of expressions evaluated in turn, for inputs of any size. `needles` are the texts
    that they split or replace at: how many of them stand in the inputs makes a difference."""

    def __init__(self, steps: Sequence[Step], constants: Mapping[str, Any]) -> None:
        self.steps = tuple(steps)
        terms = [term for step in steps for term in step.tree.walk()]
        self.needles = tuple(dict.fromkeys(_needles(terms)))
        self.has_loops = any(term.kind == LOOP for term in terms)
        read = {name for step in steps for name in step.reads if name in constants}
        self._constants = {name: extent_of(constants[name], self.needles) for name in read}

    def ns(self, inputs: Mapping[str, Extent]) -> float:
        """The bound of all, loops and all. Raises Uncountable."""
        known: dict[str, Extent] = {}
        spent: float = 0
        for step in self.steps:
            found = self.bound(step, inputs, known)
            known[step.name] = found.extent
            spent += found.ns + transport_ns(found.extent) * (step is not self.steps[-1])
        return spent

    def bound(
        self, step: Step, inputs: Mapping[str, Extent], variables: Mapping[str, Extent]
    ) -> Bound:
        """For one of the steps, once it is known what the variables before it gave; loops and all.
        Raises Uncountable."""
        return self._bound(step, inputs, variables, None)

    def fare(
        self, step: Step, inputs: Mapping[str, Extent], variables: Mapping[str, Extent]
    ) -> Fare:
        """The same beside what a meter is told of."""
        loops = _Loops(step.tree)
        return Fare(self._bound(step, inputs, variables, loops).ns, loops.turns)

    def _bound(
        self,
        step: Step,
        inputs: Mapping[str, Extent],
        variables: Mapping[str, Extent],
        loops: _Loops | None,
    ) -> Bound:
        """What is read of the call is given to the library anew for each expression."""
        arguments = [one for name, one in inputs.items() if name.startswith("args.")]
        names: dict[_Name, Extent] = {"args": united(arguments, self.needles)}
        for several in (self._constants, variables, inputs):
            names.update(several)
        around = Around(self.needles, False, loops is not None)
        found = _Counter(names, around, loops).bound(step.tree)
        constants = [self._constants[one].values for one in step.reads if one in self._constants]
        supply_ns = _SUPPLY_NS + _CONSTANT_VALUE_NS * sum(constants)
        for one in inputs.values():
            supply_ns += one.values * _SUPPLY_VALUE_NS + one.bytes * _SUPPLY_BYTE_NS
        return Bound(found.ns + supply_ns, found.extent)


def transport_ns(extent: Extent) -> float:
    """What it takes to get the value of a variable out of the library and back into it."""
    return 2 * _SUPPLY_VALUE_NS * extent.values + extent.bytes


def loops_of(tree: Term) -> list[Term]:
    """The loops of a tree, in the order in which the meter counts them."""
    return [term for term in tree.walk() if term.kind == LOOP]


def fills(loop: Term) -> Term | None:
    """What a turn adds to a list, if it does: `@result + [x]`, perhaps under a condition."""
    step = loop.parts[3]
    for term in (step, *step.parts):
        if term.kind == CALL and term.name == "_+_" and term.parts[1].kind == LIST:
            return term.parts[1]
    return None


def _needles(terms: Iterable[Term]) -> list[str]:
    calls = (one for one in terms if one.kind == CALL and one.name in _CUTTING)
    return [text for one in calls if len(one.parts) > 1 and (text := one.parts[1].text)]


class _Loops:
    """What one turn of each loop costs, found on the way."""

    def __init__(self, tree: Term) -> None:
        self._numbers = {id(term): number for number, term in enumerate(loops_of(tree))}
        self._found: dict[int, float] = {}

    def turn_ns(self, term: Term, ns: float) -> float:
        """The first answer stays: it is found with nothing in the hands of outer loops."""
        return self._found.setdefault(self._numbers[id(term)], ns)

    @property
    def turns(self) -> tuple[float, ...]:
        """For each loop, in order."""
        return tuple(
            _TURN_NS + _TICK_NS + self._found[number] for number in range(len(self._numbers))
        )


#: A name, or a pair: `args` and `k` for what `args[k]` takes out in a loop over the keys of `args`.
_Name = str | tuple[str, str]


class _Counter:
    """Walks a tree. `known` also has what the loops it is in add."""

    def __init__(
        self,
        known: Mapping[_Name, Extent],
        around: Around,
        loops: _Loops | None,
        depth: int = 0,
    ) -> None:
        self._known = known
        self._around = around
        self._loops = loops
        self._depth = depth

    def bound(self, term: Term) -> Bound:
        kind = term.kind
        if kind == CALL:
            return self._call(term)
        if kind == IDENTIFIER:
            return Bound(_TERM_NS, self._name(term.name))
        if kind == CONSTANT:
            return Bound(_TERM_NS, extent_of(term.value, self._around.needles))
        if kind == SELECT:
            return self._select(term)
        return self._loop(term) if kind == LOOP else self._collection(term)

    def _name(self, name: str) -> Extent:
        found = self._known.get(name)
        if found is None:
            found = uniform(1, _UNMEASURED_BYTES, _UNMEASURED_BYTES, self._around.needles)
        return found

    def _select(self, term: Term) -> Bound:
        if term.value:
            return Bound(self.bound(term.parts[0]).ns + _LOOK_NS, scalar(self._around.needles))
        return self._member(term.parts[0], term.name)

    def _member(self, holder: Term, name: str) -> Bound:
        """What is taken out of something is no larger than it; arguments are measured alone."""
        found = self.bound(holder)
        own = self._known.get(f"args.{name}") if _is_named(holder, "args") else None
        return Bound(found.ns + _LOOK_NS, own or found.extent)

    def _call(self, term: Term) -> Bound:
        if term.name in _INDEXED and len(term.parts) == 2:
            return self._indexed(*term.parts)
        function = FUNCTIONS.get(term.name)
        if function is None:
            raise Uncountable(term.offset, f'how long "{term.name}" may take is not known')
        return function(term, [self.bound(part) for part in term.parts], self._around)

    def _indexed(self, holder: Term, index: Term) -> Bound:
        found = self._member(holder, index.text or "")
        if index.text is None:
            own = self._known.get((_path(holder), _path(index)))
            found = Bound(found.ns, own or self.bound(holder).extent)
        return Bound(found.ns + self.bound(index).ns, found.extent)

    def _collection(self, term: Term) -> Bound:
        parts = [self.bound(part) for part in term.parts]
        whole = united([part.extent for part in parts], self._around.needles)
        ns = _TERM_NS * (2 + len(parts)) + sum(part.ns for part in parts)
        return Bound(ns, whole._replace(values=whole.values + 1))

    def _loop(self, term: Term) -> Bound:
        """All turns together cost what they would with nothing in hand, and beside that no more
        than one turn with everything in hand: no cost grows slower than what it is of."""
        if self._depth >= LOOPS_NESTED_MAX:
            raise Uncountable(
                term.offset,
                f"loops are nested deeper than {LOOPS_NESTED_MAX}",
                "what they compare may belong in several rules",
            )
        over, start, condition, step, result = term.parts
        accumulator, filled = term.value[-1], fills(term)
        members, begun = self.bound(over), self.bound(start)
        ns, extent = members.ns + begun.ns, begun.extent
        turns = min(members.extent.items, _TURNS_MAX)
        body = [part for part in (condition, step, filled) if part is not None]
        if turns or self._loops is not None:
            empty = self._turn(term, scalar(self._around.needles), body)
            whole = self._turn(term, members.extent, body) if turns else empty
            ns += whole.ns - empty.ns + turns * self._untold(term, empty.ns)
            if filled is not None:
                if self._loops is None:
                    ns += FILL_NS / 2 * turns * turns
                more = [extent, times(empty.extent, turns), whole.extent]
                extent = united(more, self._around.needles)._replace(items=turns)
        done = self._inside({accumulator: extent}).bound(result)
        return Bound(ns + done.ns, done.extent)

    def _untold(self, term: Term, turn_ns: float) -> float:
        """What a turn costs beside what the meter is told."""
        if self._loops is None:
            return _TURN_NS + turn_ns
        return max(turn_ns - self._loops.turn_ns(term, turn_ns), 0)

    def _turn(self, term: Term, member: Extent, body: Sequence[Term]) -> Bound:
        """One turn, and what it adds to a list."""
        names: dict[_Name, Extent] = {
            term.name: member,
            term.value[-1]: scalar(self._around.needles),
        }
        origin = _origin(term.parts[0])
        if origin:
            names[origin, term.name] = member
        counter = self._inside(names, hides=term.name)
        parts = [counter.bound(part) for part in body]
        return Bound(sum(part.ns for part in parts), parts[-1].extent)

    def _inside(self, names: Mapping[_Name, Extent], hides: str = "") -> _Counter:
        """In a loop; what was known of a name that it hides is not known of its own."""
        known = {
            name: extent
            for name, extent in self._known.items()
            if isinstance(name, str) or hides not in _WORD.findall(f"{name[0]} {name[1]}")
        }
        known.update(names)
        around = self._around._replace(is_repeated=True)
        return _Counter(known, around, self._loops, self._depth + 1)


def _is_named(term: Term, name: str) -> bool:
    return term.kind == IDENTIFIER and term.name == name


def _path(term: Term) -> str:
    """`args.a.b` or `args[k]` as it is written; anything else has no name."""
    if term.kind == IDENTIFIER:
        return term.name
    if term.kind == SELECT and not term.value:
        above = _path(term.parts[0])
        return f"{above}.{term.name}" if above else ""
    if term.kind == CALL and term.name == "_[_]" and term.parts[1].kind == IDENTIFIER:
        above = _path(term.parts[0])
        return f"{above}[{term.parts[1].name}]" if above else ""
    return ""


def _origin(over: Term) -> str:
    """Of whose keys a loop takes one after the other, all or those a filter left."""
    if over.kind != LOOP:
        return _path(over)
    kept = fills(over)
    is_filter = kept is not None and _is_named(kept.parts[0], over.name)
    return _origin(over.parts[0]) if is_filter else ""
