"""What a browser's parser makes of a page: its elements, and below what each text stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
_HTMX = ("hx-", "data-hx-", "sse-", "data-sse-")


@dataclass(slots=True)
class Element:
    """One element; `above` are those it stands in, the outermost first."""

    tag: str
    attributes: dict[str, str]
    above: tuple[Element, ...] = ()
    text: str = ""

    @property
    def is_disabled(self) -> bool:
        """Whether htmx leaves it alone."""
        return any("hx-disable" in one.attributes for one in (*self.above, self))

    @property
    def htmx(self) -> dict[str, str]:
        """What it says to htmx."""
        return {
            name: value
            for name, value in self.attributes.items()
            if name.startswith(_HTMX) and name != "hx-disable"
        }


@dataclass
class Marks(HTMLParser):
    """The elements of a page, in order."""

    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open))
        self.elements.append(made)
        if tag not in _VOID:
            self._open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data


def marks_of(text: str) -> list[Element]:
    """Of a page or a part of one; raises AssertionError where its tags are not nested."""
    marks = Marks()
    marks.feed(text)
    marks.close()
    assert not marks._open, f"not closed: {marks._open}"
    return marks.elements
