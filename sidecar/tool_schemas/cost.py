"""What holding a value against a schema can cost at most, before it is done.

Knows: that a schema may refer to itself and look at one value in many ways, so that few bytes can
cost more steps than there is time for; that the cost along one way down a value has a bound for
each depth, and so has the whole; and which texts a pattern can meet.
Must not know: how a schema is compiled, tools, calls. Pure.

How it is bounded: each value within the arguments is met by the schemas on the way down to it, and
all of those stand on some way from the top to a leaf. So the number of values, times the most that
one such way can cost, bounds the whole; patterns are counted the same way, by the bytes of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from sidecar.tool_schemas.reading import Schema, Subschema, Unusable

#: Steps that one call's arguments may take; each about 10 ns, so 0.1 s.
STEPS_MAX: Final = 10_000_000
#: What a pattern of the largest size takes for a byte of text, in steps.
PATTERN_STEPS: Final = 100
#: Deeper than JSON bodies may be (`limits.depth`).
DEPTH_MAX: Final = 64
#: Arguments of so many levels, values and bytes of text have to be affordable.
SMALL: Final = (2, 100, 4096)
#: The fewest bytes of JSON for a value: `1,`.
_VALUE_BYTES: Final = 2
#: The most bytes of UTF-8 for a character.
_CHARACTER_BYTES: Final = 4


class Cost:
    """The bounds of one schema."""

    __slots__ = ("_meets_any", "_meets_keys", "_names", "_patterns", "_steps", "free_bytes")

    def __init__(self, schema: Schema) -> None:
        """Raises Unusable for a schema whose cost has none."""
        order = _order(schema.nodes)
        self._steps = _along(schema.nodes, order, lambda node: node.steps)
        self._patterns = [0]
        if any(node.patterns or node.key_patterns for node in schema.nodes):
            self._patterns = _along(
                schema.nodes, order, lambda node: node.patterns + node.key_patterns
            )
        self._names, self._meets_any = _patterned(schema.nodes)
        self._meets_keys = any(node.key_patterns or node.keys for node in schema.nodes)
        if self._most(*SMALL) > STEPS_MAX:
            raise Unusable("holding even small arguments against it costs too much")
        each_byte = self._steps[-1] / _VALUE_BYTES + PATTERN_STEPS * self._patterns[-1]
        #: A body of so many bytes costs no more than may be, whatever stands in it.
        self.free_bytes = int(STEPS_MAX / each_byte)

    def steps(self, arguments: Mapping[str, Any]) -> int:
        """The most that these arguments can cost."""
        return self._most(*self._measured(arguments))

    def _most(self, depth: int, values: int, text: int) -> int:
        steps = self._steps[min(depth, len(self._steps) - 1)]
        patterns = self._patterns[min(depth, len(self._patterns) - 1)]
        return values * steps + text * PATTERN_STEPS * patterns

    def _measured(self, arguments: Mapping[str, Any]) -> tuple[int, int, int]:
        """Their depth, how many values there are, and the bytes of texts that a pattern can
        meet."""
        deepest, values, text = 0, 1, 0
        stack: list[tuple[Any, int, bool]] = [(arguments, 0, False)]
        while stack:
            value, depth, is_met = stack.pop()
            kind = type(value)
            if kind is str:
                if is_met:
                    text += len(value) if value.isascii() else _CHARACTER_BYTES * len(value)
                continue
            if kind is not dict and kind is not list:
                continue
            values += len(value)
            depth += bool(value)
            deepest = max(deepest, depth)
            if kind is list:
                stack += [(item, depth, is_met) for item in value]
                continue
            for name, member in value.items():
                if self._meets_keys:
                    text += _CHARACTER_BYTES * len(name)
                stack.append((member, depth, self._meets_any or name in self._names))
        return deepest, values, text


def _order(nodes: list[Subschema]) -> list[int]:
    """Each schema after those that look at the same value for it."""
    try:
        return list(
            TopologicalSorter({n: node.same for n, node in enumerate(nodes)}).static_order()
        )
    except CycleError:
        raise Unusable("a $ref leads back to itself") from None


def _along(nodes: list[Subschema], order: list[int], own: Callable[[Subschema], int]) -> list[int]:
    """The most that one way down costs, by how many levels there are below; the last for all that
    are deeper. More than STEPS_MAX is too much, however much."""
    below = [0] * len(nodes)
    most: list[int] = []
    for _ in range(DEPTH_MAX + 1):
        here = [0] * len(nodes)
        for number in order:
            node = nodes[number]
            cost = own(node) + sum(here[one] for one in node.same) + _deepest(node, below)
            here[number] = min(cost, STEPS_MAX + 1)
        most.append(here[0])
        if here == below or here[0] > STEPS_MAX:
            break
        below = here
    return most


def _deepest(node: Subschema, below: list[int]) -> int:
    """The most that a member, its name or an item costs."""
    named = max((below[one] for one in node.named.values()), default=0)
    other = max((below[one] for one in node.other), default=0)
    member = max(named, other) + sum(below[one] for one in node.always)
    item = max((below[one] for one in node.items), default=0)
    item += sum(below[one] for one in node.beside)
    return max(member, item, sum(below[one] for one in node.keys))


def _patterned(nodes: list[Subschema]) -> tuple[frozenset[str], bool]:
    """The names of members whose texts a pattern can meet, also within lists; and whether it can
    meet those of any name."""
    above: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for one in (*node.same, *node.items, *node.beside):
            above[one].append(number)
    waiting = [number for number, node in enumerate(nodes) if node.patterns]
    met = set(waiting)
    while waiting:
        new = set(above[waiting.pop()]) - met
        met |= new
        waiting += new
    names = {name for node in nodes for name, one in node.named.items() if one in met}
    return frozenset(names), any(not met.isdisjoint((*n.other, *n.always)) for n in nodes)
