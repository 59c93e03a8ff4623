"""Patterns of `matches` (RE2 syntax) as trees, as far as their cost asks for.

Knows: which characters a place of a pattern takes, told apart within ASCII and one for all others,
and how many instructions RE2 makes of it; groups, alternatives, repeats, the two anchors. Reads
only patterns that RE2 took; what it takes for more than it is only costs more.
Must not know: CEL, what a cost is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: One bit for each ASCII character, one for all others.
ANY: Final = (1 << 129) - 1
OTHERS: Final = 1 << 128

_NEWLINE: Final = 1 << 10
#: RE2 spells out the UTF-8 of what lies beyond ASCII: so many instructions for all of it …
_INSTRUCTIONS_OF_OTHERS: Final = 10
#: … and for a named class of Unicode; of the large ones (letters) as many as were measured.
_INSTRUCTIONS_OF_CLASS: Final = 700
_INSTRUCTIONS_OF_LARGE_CLASS: Final = 3800
_LARGE_CLASSES: Final = ("L", "Ll", "Lu", "Lo", "M", "Mn", "S", "So", "C", "Cn")


def _mask(text: str) -> int:
    return sum(1 << ord(one) for one in text)


def _range(first: int, last: int) -> int:
    mask = 0
    if first < 128:
        mask = (1 << (min(last, 127) + 1)) - (1 << first)
    return mask | (OTHERS if last > 127 else 0)


_DIGITS: Final = _range(48, 57)
_UPPER: Final = _range(65, 90)
_LOWER: Final = _range(97, 122)
_WORD: Final = _DIGITS | _UPPER | _LOWER | _mask("_")
_SPACE: Final = _mask("\t\n\f\r ")
_PERL: Final = {"d": _DIGITS, "s": _SPACE, "w": _WORD}
_POSIX: Final = {
    "alnum": _DIGITS | _UPPER | _LOWER, "alpha": _UPPER | _LOWER, "ascii": _range(0, 127),
    "blank": _mask("\t "), "cntrl": _range(0, 31) | _range(127, 127), "digit": _DIGITS,
    "graph": _range(33, 126), "lower": _LOWER, "print": _range(32, 126),
    "punct": _range(33, 47) | _range(58, 64) | _range(91, 96) | _range(123, 126),
    "space": _SPACE | _mask("\v"), "upper": _UPPER, "word": _WORD,
    "xdigit": _DIGITS | _range(65, 70) | _range(97, 102),
}  # fmt: skip
_ESCAPED: Final = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


@dataclass(frozen=True, slots=True)
class One:
    """A place that takes one character of `mask`."""

    mask: int
    instructions: int


@dataclass(frozen=True, slots=True)
class Begin:
    """`^` or `\\A` where it means the beginning of the text."""


@dataclass(frozen=True, slots=True)
class End:
    """`$` or `\\z` where it means the end of the text."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; empty: nothing, or what takes no character, like `\\b`."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """At least and at most so many times; None: without end."""

    part: Part
    least: int
    most: int | None


Part = One | Begin | End | Sequence | Choice | Repeat

_NOTHING: Final = Sequence(())


def parse_pattern(pattern: str) -> Part:
    """The tree of a pattern that RE2 takes. Raises ValueError for what is not understood."""
    try:
        return _Reader(pattern).whole()
    except (IndexError, RecursionError):
        raise ValueError("not understood") from None


@dataclass(slots=True)
class _Flags:
    folds: bool = False
    is_multiline: bool = False
    dot_takes_newline: bool = False


class _Reader:
    """Reads from left to right; `_at` is the next character."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def whole(self) -> Part:
        found = self._choice(_Flags())
        if self._at != len(self._text):
            raise ValueError("not understood")
        return found

    def _next(self, wanted: str) -> bool:
        if self._text.startswith(wanted, self._at):
            self._at += len(wanted)
            return True
        return False

    def _take(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, end: str) -> str:
        start, self._at = self._at, self._text.index(end, self._at) + len(end)
        return self._text[start : self._at - len(end)]

    def _choice(self, flags: _Flags) -> Part:
        flags = _Flags(flags.folds, flags.is_multiline, flags.dot_takes_newline)
        parts = [self._sequence(flags)]
        while self._next("|"):
            parts.append(self._sequence(flags))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self, flags: _Flags) -> Part:
        """Up to `|`, `)` or the end. `flags` may change on the way, for what follows."""
        parts: list[Part] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if self._next("\\Q"):
                rest = self._text[self._at :]
                literal = rest.partition("\\E")[0]
                self._at = min(self._at + len(literal) + 2, len(self._text))
                parts += [_one(ord(one), flags) for one in literal]
            else:
                part = self._repeated(self._single(flags))
                parts += [part] if part != _NOTHING else []
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, part: Part) -> Part:
        while self._at < len(self._text):
            times = self._times()
            if times is None:
                break
            self._next("?")
            part = Repeat(part, *times)
        return part

    def _times(self) -> tuple[int, int | None] | None:
        for mark, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._next(mark):
                return times
        end = self._text.find("}", self._at) if self._text[self._at] == "{" else -1
        least, comma, most = self._text[self._at + 1 : max(end, 0)].partition(",")
        if end < 0 or not least.isdecimal() or not (most == "" or most.isdecimal()):
            return None  # a brace that is itself
        self._at = end + 1
        if not comma:
            return int(least), int(least)
        return int(least), int(most) if most else None

    def _single(self, flags: _Flags) -> Part:
        one = self._take()
        if one == "(":
            return self._group(flags)
        if one == "[":
            return self._class(flags)
        if one == ".":
            mask = ANY if flags.dot_takes_newline else ANY & ~_NEWLINE
            return One(mask, _INSTRUCTIONS_OF_OTHERS)
        if one == "^":
            return _NOTHING if flags.is_multiline else Begin()
        if one == "$":
            return _NOTHING if flags.is_multiline else End()
        return self._escape(flags) if one == "\\" else _one(ord(one), flags)

    def _group(self, flags: _Flags) -> Part:
        inner = flags
        if self._next("?P<") or self._next("?<"):
            self._until(">")
        elif self._next("?"):
            start = self._at
            while self._text[self._at] not in ":)":
                self._at += 1
            changed = _changed(flags, self._text[start : self._at])
            if self._take() == ")":  # for the rest of the group it stands in
                flags.folds, flags.is_multiline = changed.folds, changed.is_multiline
                flags.dot_takes_newline = changed.dot_takes_newline
                return _NOTHING
            inner = changed
        found = self._choice(inner)
        if not self._next(")"):
            raise ValueError("not understood")
        return found

    def _escape(self, flags: _Flags) -> Part:
        one = self._text[self._at]
        if one in "bB":
            self._at += 1
            return _NOTHING
        if one in "Az":
            self._at += 1
            return Begin() if one == "A" else End()
        if one == "C":
            self._at += 1
            return One(ANY, 1)
        named = self._named_class()
        if named is not None:
            return One(*named)
        return _one(self._code(), flags)

    def _named_class(self) -> tuple[int, int] | None:
        """After a backslash: the characters of `\\d`, `\\pL`, `\\p{Greek}` and so on."""
        one = self._text[self._at]
        if one.lower() in _PERL:
            self._at += 1
            mask = _PERL[one.lower()]
            return (mask, 4) if one.islower() else (ANY & ~mask, 4 + _INSTRUCTIONS_OF_OTHERS)
        if one not in "pP":
            return None
        self._at += 1
        name = (self._until("}") if self._next("{") else self._take()).lstrip("^")
        is_large = name in _LARGE_CLASSES
        return ANY, _INSTRUCTIONS_OF_LARGE_CLASS if is_large else _INSTRUCTIONS_OF_CLASS

    def _code(self) -> int:
        """After a backslash: the one character that is meant."""
        one = self._take()
        if one == "x":
            digits = self._until("}") if self._next("{") else self._take() + self._take()
            return int(digits, 16)
        if one in "01234567":
            digits = one
            while len(digits) < 3 and self._text[self._at : self._at + 1] in tuple("01234567"):
                digits += self._take()
            return int(digits, 8)
        return _ESCAPED.get(one, ord(one))

    def _class(self, flags: _Flags) -> Part:
        is_negated = self._next("^")
        mask = instructions = 0
        is_vague = False
        is_first = True
        while is_first or self._text[self._at] != "]":
            is_first = False
            if self._next("[:"):
                name = self._until(":]")
                member = _POSIX[name.lstrip("^")]
                mask |= ANY & ~member if name.startswith("^") else member
                continue
            named = self._named_class_in_brackets()
            if named is not None:
                mask |= named[0]
                is_vague |= named[0] == ANY
                instructions += named[1] if named[0] == ANY else 0
                continue
            first = self._member()
            last = first
            if self._text[self._at] == "-" and self._text[self._at + 1] != "]":
                self._at += 1
                last = self._member()
            mask |= _folded(_range(first, last)) if flags.folds else _range(first, last)
            instructions += 2 if last > 127 else 0
        self._at += 1
        if is_negated:
            has_others = bool(mask & OTHERS)
            mask = ANY & ~mask | (OTHERS if has_others else 0)
        if is_vague:
            return One(ANY, instructions)
        return One(mask, instructions + _runs(mask) + _others(mask))

    def _named_class_in_brackets(self) -> tuple[int, int] | None:
        if self._text[self._at] != "\\" or self._text[self._at + 1] not in "dDsSwWpP":
            return None
        self._at += 1
        return self._named_class()

    def _member(self) -> int:
        one = self._take()
        return self._code() if one == "\\" else ord(one)


def _changed(flags: _Flags, letters: str) -> _Flags:
    on, _, off = letters.partition("-")

    def is_on(letter: str, before: bool) -> bool:
        return (before or letter in on) and letter not in off

    return _Flags(
        is_on("i", flags.folds), is_on("m", flags.is_multiline), is_on("s", flags.dot_takes_newline)
    )


def _one(code: int, flags: _Flags) -> One:
    mask = _range(code, code)
    if flags.folds:
        mask = _folded(mask)
    return One(mask, _runs(mask) + (3 if code > 127 else 0))


def _folded(mask: int) -> int:
    upper, lower = mask & _UPPER, mask & _LOWER
    return mask | upper << 32 | lower >> 32


def _runs(mask: int) -> int:
    """How many ranges the ASCII characters of a mask make up."""
    ascii_mask = mask & ~OTHERS
    return (ascii_mask & ~(ascii_mask << 1)).bit_count()


def _others(mask: int) -> int:
    return _INSTRUCTIONS_OF_OTHERS if mask & OTHERS else 0
