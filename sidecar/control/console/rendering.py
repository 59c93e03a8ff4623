"""From a template and plain values to the bytes of a page.

Knows: that whatever a template prints is text: markup in it is escaped, and characters that cannot
be seen (controls, bidirectional marks) stand as escapes, for tools and agents choose much of what
is shown; that what somebody decides by is shown in the order in which it was written. A template
that reads what it was not given fails.
Must not know: HTTP, where the values come from.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from sidecar.control.api.times import time_text
from sidecar.counted import counted
from sidecar.policy.printable import printable

FOLDER: Final = Path(__file__).parent / "templates"
#: Kinds of characters as Unicode has them (UAX #9): letters that run from right to left, the digits
#: of Arabic, and marks upon whatever stands before them.
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL"})
_OF_ARABIC: Final = "AN"
_MARK: Final = "NSM"
#: Characters of one value that a page shows; the API has the whole.
SHOWN_MAX: Final = 20_000

_SECOND_US: Final = 1_000_000
_SOON: Final = ((120, "2 min"), (900, "15 min"), (3_600, "1 h"))


def _seen(value: Any) -> Any:
    """What a template prints: text in which nothing hides. Line ends and tabs stay."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _legible(value if len(value) <= SHOWN_MAX else f"{value[:SHOWN_MAX]}… [cut]")


def in_order(text: Any) -> Markup:
    """A text by which somebody decides: nothing of it is left out here, for what is asked has
    bounds of its own (`approvals.asked`), and its pieces stand in the order in which they were
    written. Letters that run from right to left draw the numbers and signs beside them along: of
    `/pay/א/100/200` a browser shows `/pay/100/200/א`. Each run of them is a piece of its own."""
    shown = _legible(text if isinstance(text, str) else str(text))
    if shown.isascii():
        return escape(shown)
    kinds = {one: unicodedata.bidirectional(one) for one in set(shown)}
    letters = [one for one, kind in kinds.items() if kind in _RIGHT_TO_LEFT]
    digits = [one for one, kind in kinds.items() if kind == _OF_ARABIC]
    if not letters and not digits:
        return escape(shown)
    marks = [one for one, kind in kinds.items() if kind == _MARK]
    letter, with_marks = _one_of(letters), _one_of([*letters, *marks])
    runs = re.compile(f"{letter}(?:{with_marks}| (?={letter}))*|{_one_of(digits)}+")
    parts: list[Markup] = []
    at = 0
    for run in runs.finditer(shown):
        parts += (escape(shown[at : run.start()]), Markup("<bdi>{}</bdi>").format(run[0]))
        at = run.end()
    return Markup("").join([*parts, escape(shown[at:])])


def _one_of(characters: Sequence[str]) -> str:
    """A pattern of one of them; of none, what nothing fits."""
    return f"[{re.escape(''.join(characters))}]" if characters else r"(?!)"


def _legible(text: str) -> str:
    return "\n".join(
        "\t".join(printable(piece) for piece in line.split("\t")) for line in text.split("\n")
    )


def moment(at_us: int | None) -> Markup | str:
    """A time for people, with the exact one behind it."""
    if not at_us:
        return "—"
    exact = time_text(at_us)
    shown = exact[:19].replace("T", " ")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, shown)


def lasting(span_us: int) -> str:
    """How long something is, in the largest unit of which there are two, or one to the second;
    never more than it is, for it may be the time that is left."""
    seconds = max(0, span_us) // _SECOND_US
    for unit_s, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit_s or seconds == unit_s:
            return f"{seconds // unit_s} {name}"
    return f"{seconds} s"


def hurry(left_us: int) -> str:
    """How soon something ends, if that is soon: in words that seldom change, for a list that is
    made again when it has changed moves under the hand that reads it."""
    for seconds, words in _SOON:
        if left_us < seconds * _SECOND_US:
            return f"less than {words} left"
    return ""


def pretty(value: Any) -> str:
    """JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def percent(share: float) -> str:
    """A share of a limit."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def span(seconds: float) -> str:
    """A short time, in the unit that reads best."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(count: float) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
        auto_reload=False,
    )
    made.filters |= {
        "moment": moment, "lasting": lasting, "hurry": hurry, "pretty": pretty, "percent": percent,
        "size": size, "span": span, "in_order": in_order, "counted": counted,
    }  # fmt: skip
    return made


class Templates:
    """All of them; each is compiled when it is first asked for."""

    def __init__(self) -> None:
        self._environment = _environment()

    def page(self, name: str, values: Mapping[str, Any]) -> str:
        """The text of a page or of a part of one. Raises jinja2.TemplateError."""
        return self._environment.get_template(name).render(values)
