"""What a call of each function costs and how large its value may be.

Knows: every operator and function a condition may call; the rates are measured. One that is not
here cannot be called, however well it compiles.
Must not know: loops, names, what is too long for whom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from sidecar.policy.cel_extents import (
    Around,
    Bound,
    Extent,
    Uncountable,
    cut_anew,
    joined,
    larger,
    scalar,
    times,
    united,
)
from sidecar.policy.cel_functions import OWN_COSTS
from sidecar.policy.cel_text_costs import TEXT_COSTS, TEXT_TICK_NS, TextSizes
from sidecar.policy.cel_tree import CONSTANT, LIST, Term
from sidecar.policy.pattern_costs import pattern_cost

#: Calls of a run that `run.count` may have to look at.
_COUNTED_CALLS: Final = 1000

_Parts = Sequence[Bound]
_Function = Callable[[Term, _Parts, Around], Bound]


def _ns(parts: _Parts, ns: float) -> float:
    return ns + sum(part.ns for part in parts)


def _together(parts: _Parts, around: Around) -> Extent:
    return united([part.extent for part in parts], around.needles)


def _scalar(ns: float, per_value: float = 0, per_byte: float = 0) -> _Function:
    """Gives a number, true or false."""

    def bound(term: Term, parts: _Parts, around: Around) -> Bound:
        spent = ns
        for part in parts:
            extent = part.extent
            spent += part.ns + extent.values * per_value + extent.bytes * per_byte
        return Bound(spent, scalar(around.needles))

    return bound


def _compared(term: Term, parts: _Parts, around: Around) -> Bound:
    """Two values, or one with the members of a list: as long as they are alike, so no longer than
    the one that is written out."""
    written = [
        part.extent
        for part, own in zip(parts, term.parts, strict=True)
        if own.kind in (CONSTANT, LIST) or own.name.startswith("constants.")
    ]
    if term.name == "@in":
        written = [parts[1].extent]
    extents = written[:1] or [part.extent for part in parts]
    spent = _ns(parts, 150) + sum(250 * one.values + one.bytes for one in extents)
    return Bound(spent, scalar(around.needles))


def _same(ns: float) -> _Function:
    """Gives what it was given, or a part of it."""

    def bound(term: Term, parts: _Parts, around: Around) -> Bound:
        return Bound(_ns(parts, ns), parts[0].extent)

    return bound


def _rewritten(ns: float, per_byte: float = 0, grows: float = 1) -> _Function:
    """Gives a text made of another, up to so much longer."""

    def bound(term: Term, parts: _Parts, around: Around) -> Bound:
        extent = parts[0].extent
        total = extent.bytes * grows + 32
        made = cut_anew(Extent(1, total, 0), around.needles)
        if grows == 1 and not any(len(one) > 1 or one.isalpha() for one in around.needles):
            made = Extent(1, total, 0, extent.cuts)
        return Bound(_ns(parts, ns) + extent.bytes * per_byte, made)

    return bound


def _either(term: Term, parts: _Parts, around: Around) -> Bound:
    """A condition, then one of two."""
    one, other = parts[-2], parts[-1]
    ns = _ns(parts[:-2], 60) + max(one.ns, other.ns)
    return Bound(ns, larger(one.extent, other.extent))


def _or_value(term: Term, parts: _Parts, around: Around) -> Bound:
    """Both are worked out."""
    return Bound(_ns(parts, 100), larger(parts[0].extent, parts[1].extent))


def _added(term: Term, parts: _Parts, around: Around) -> Bound:
    """Numbers, texts or lists."""
    whole = _together(parts, around)
    items = sum(part.extent.items for part in parts)
    ns = _ns(parts, 100) + 60 * whole.values + whole.bytes
    return Bound(ns, joined(whole, 1, around.needles)._replace(items=items))


def _on_text(gives: _Function) -> _Function:
    """Does something with each byte of its text."""

    def bound(term: Term, parts: _Parts, around: Around) -> Bound:
        found = gives(term, parts, around)
        if around.is_metered:
            return found._replace(ns=found.ns + TEXT_TICK_NS)
        text = parts[0].extent
        hits = _hits(term, text, around)
        sizes = TextSizes(
            text.bytes, hits, [part.extent.bytes for part in parts[1:]], around.is_repeated
        )
        return found._replace(ns=found.ns + TEXT_COSTS[term.name](term, sizes))

    return bound


def _hits(term: Term, text: Extent, around: Around) -> float:
    """How often what a text is cut at stands in it."""
    wanted = term.parts[1].text if len(term.parts) > 1 else None
    return text.cuts[around.needles.index(wanted)] if wanted in around.needles else text.bytes + 1


def _replaced(term: Term, parts: _Parts, around: Around) -> Bound:
    text, given = parts[0].extent, parts[2].extent
    hits = _hits(term, text, around)
    cuts = tuple(one + hits * more for one, more in zip(text.cuts, given.cuts, strict=True))
    made = Extent(1, text.bytes + hits * given.bytes, 0, cuts)
    if any(len(one) > 1 for one in around.needles):
        made = cut_anew(made, around.needles)
    return Bound(_ns(parts, 500), made)


def _pieces(term: Term, parts: _Parts, around: Around) -> Bound:
    text = parts[0].extent
    pieces = _hits(term, text, around) + 1
    return Bound(_ns(parts, 500), text._replace(values=1 + pieces, items=pieces))


def _prepared(term: Term, parts: _Parts, around: Around) -> Bound:
    pattern = term.parts[1].text
    if pattern is None:
        raise Uncountable(term.offset, "the pattern of matches() must be a literal")
    ns = 3000 + pattern_cost(pattern).prepare_ns
    return Bound(_ns(parts, ns), scalar(around.needles))


def _join(term: Term, parts: _Parts, around: Around) -> Bound:
    texts = parts[0].extent
    whole = texts
    if len(parts) > 1:
        whole = united([texts, times(parts[1].extent, texts.items)], around.needles)
    ns = _ns(parts, 300) + 60 * texts.values + whole.bytes
    return Bound(ns, joined(whole, 2 * texts.items, around.needles)._replace(values=1, items=0))


def _format(term: Term, parts: _Parts, around: Around) -> Bound:
    """A `%.1000f` may become 1,300 characters, and takes three."""
    whole = _together(parts, around)
    total = 450 * parts[0].extent.bytes + 8 * whole.bytes + 64 * whole.values
    ns = _ns(parts, 500) + 300 * whole.values + 10 * total
    return Bound(ns, cut_anew(Extent(1, total, 0), around.needles))


def _own(function: str, gives: _Function) -> _Function:
    """A function of ours, which knows what its texts cost it; on a meter it puts that itself."""
    ns, texts_ns = OWN_COSTS[function]

    def bound(term: Term, parts: _Parts, around: Around) -> Bound:
        found = gives(term, parts, around)
        spent = _ns(parts, ns)
        if not around.is_metered:
            spent += texts_ns(*(part.extent.bytes for part in parts))
        return Bound(spent, found.extent)

    return bound


def _counts(term: Term, parts: _Parts, around: Around) -> Bound:
    pattern = term.parts[0].text
    pieces = min(pattern.count("*") + 1 if pattern is not None else 200, 200)
    return Bound(_ns(parts, 4000) + _COUNTED_CALLS * (300 + 80 * pieces), scalar(around.needles))


#: None of these takes longer than 10 µs on a usual call.
_CHEAP: Final = frozenset(
    {
        "_&&_", "_||_", "!_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "_[_]", "_?._",
        "_[?_]", "orValue", "hasValue", "startsWith", "endsWith", "size",
    }
)  # fmt: skip
_CHEAP_TERMS_MAX: Final = 60


def are_cheap(functions: Set[str], term_count: int) -> bool:
    """Whether terms without loops, so many, that call no others than these, need not be looked at
    more closely: a few comparisons."""
    return term_count <= _CHEAP_TERMS_MAX and functions <= _CHEAP


def _each(names: str, function: _Function) -> dict[str, _Function]:
    return dict.fromkeys(names.split(), function)


FUNCTIONS: Final[Mapping[str, _Function]] = {
    **_each("_&&_ _||_ !_ -_ @not_strictly_false _-_ _*_ _/_ _%_", _scalar(60)),
    **_each("_==_ _!=_ @in", _compared),
    **_each("_<_ _<=_ _>_ _>=_", _scalar(150, 0, 1)),
    "_+_": _added,
    "_?_:_": _either,
    **_each("orValue or", _or_value),
    **_each("dyn type hasValue value", _same(60)),
    **_each("optional.of optional.ofNonZeroValue", _same(100)),
    "optional.none": _scalar(60),
    "size": _scalar(100, 0, 2.2),
    **_each("startsWith endsWith", _scalar(120, 0, 0.3)),
    **_each("contains indexOf lastIndexOf", _on_text(_scalar(300))),
    "matches": _on_text(_prepared),
    **_each("int uint double bool", _scalar(200, 0, 3)),
    **_each("string bytes", _rewritten(200, 2)),
    **_each("timestamp duration", _scalar(1000, 0, 2)),
    **_each(
        "getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours getMilliseconds"
        " getMinutes getMonth getSeconds",
        _scalar(1500, 0, 2),
    ),
    **_each("trim substring charAt", _on_text(_same(200))),
    **_each("lowerAscii upperAscii reverse", _on_text(_rewritten(200))),
    "strings.quote": _on_text(_rewritten(200, grows=6)),
    "replace": _on_text(_replaced),
    "split": _on_text(_pieces),
    "join": _join,
    "format": _format,
    **{one: _own(one, _scalar(0)) for one in ("inDomain", "under", "glob", "containsIP")},
    **{one: _own(one, _rewritten(0, 0)) for one in ("host", "cidr")},
    "run.count": _counts,
}
