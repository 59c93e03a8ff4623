"""What functions on texts cost for the text they are called on, beside the call itself.

Knows: the rates, which are measured, and how to work them out for a text at hand.
Must not know: how large a text is, who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from sidecar.policy.cel_tree import CALL, Term
from sidecar.policy.pattern_costs import pattern_cost

#: To tell the meter of a text: it leaves the library and comes back.
TEXT_TICK_NS: Final = 2600


class TextSizes(NamedTuple):
    """Of a text: its bytes, how often it holds what it is split or replaced at, and the bytes of
    the other arguments. `are_many` tells that these are several texts together."""

    bytes: float
    hits: float
    others: Sequence[float]
    are_many: bool = False


#: Nanoseconds for one text.
TextCost = Callable[[Term, TextSizes], float]


def _by_the_byte(rate_ns: float) -> TextCost:
    return lambda term, sizes: rate_ns * sizes.bytes


def _search(sizes: TextSizes) -> float:
    """The library compares again at each place where the text begins like what is wanted."""
    wanted = sizes.others[0]
    if wanted <= 1:
        return 0.3 * sizes.bytes
    return sizes.bytes * (8 + 0.016 * min(wanted, sizes.bytes))


def _contains(term: Term, sizes: TextSizes) -> float:
    return _search(sizes)


def _index(term: Term, sizes: TextSizes) -> float:
    return _search(sizes) + 9 * sizes.bytes


def _replace(term: Term, sizes: TextSizes) -> float:
    made = sizes.bytes + sizes.hits * sizes.others[1]
    return _search(sizes) + 0.4 * made + 90 * sizes.hits


def _split(term: Term, sizes: TextSizes) -> float:
    return _search(sizes) + 0.4 * sizes.bytes + 130 * sizes.hits


def _matches(term: Term, sizes: TextSizes) -> float:
    cost = pattern_cost(term.parts[1].text or "")
    return cost.of_many(sizes.bytes) if sizes.are_many else cost.of(sizes.bytes)


_RATES: Final = {
    "trim": 6,
    "substring": 4,
    "charAt": 4,
    "lowerAscii": 1.2,
    "upperAscii": 1.2,
    "reverse": 9,
    "strings.quote": 16,
}
TEXT_COSTS: Final[Mapping[str, TextCost]] = {
    **{name: _by_the_byte(rate) for name, rate in _RATES.items()},
    "contains": _contains,
    "indexOf": _index,
    "lastIndexOf": _index,
    "matches": _matches,
    "replace": _replace,
    "split": _split,
}


def texts_of(tree: Term) -> list[Term]:
    """The calls of such functions in a tree, in the order in which the meter counts them."""
    return [term for term in tree.walk() if term.kind == CALL and term.name in TEXT_COSTS]


def cost_of_texts(term: Term) -> Callable[[str, float], float]:
    """What one text costs in such a call. What else the call is given is written out, or at most
    of so many bytes."""
    rate = _RATES.get(term.name)
    if rate is not None:
        return lambda text, most: rate * _bytes(text)
    if term.name == "matches":
        of = pattern_cost(term.parts[1].text or "").of
        return lambda text, most: of(_bytes(text))
    cost = TEXT_COSTS[term.name]
    written = [part.text for part in term.parts[1:]]

    def ns(text: str, most: float) -> float:
        size = _bytes(text)
        hits = text.count(written[0]) if written[0] else size + 1
        others = [most if one is None else 4 * len(one) for one in written]
        return cost(term, TextSizes(size, hits, others))

    return ns


def _bytes(text: str) -> int:
    """No fewer than it has."""
    return len(text) if text.isascii() else 4 * len(text)
