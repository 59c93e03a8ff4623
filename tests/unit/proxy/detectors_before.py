"""The detectors as they were before long texts were searched piece by piece: the oracle for those.

Knows: forms and check digits. Each detector's cost is bounded by the text's length times a
constant. Digits and letters of the forms are ASCII. Except for a private key, nothing that is
found reaches over the end of a line.
Must not know: where texts come from, which detectors a rule asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

MASK: Final = "***"

Span = tuple[int, int]
Detector = Callable[[str], Iterator[Span]]

_CARD_DIGITS: Final = range(13, 20)
#: Digits stand together, or in groups of at least three; a group of more is in no card's number.
_DIGIT_RUN: Final = re.compile(r"(?<![0-9])[0-9]{3,19}+(?![0-9])(?:[ -][0-9]{3,19}+(?![0-9]))*")
_GROUP: Final = re.compile(r"[0-9]+")
_GROUPS_MAX: Final = 6
#: Lengths of card numbers by the digit of the payment network they begin with.
_NETWORKS: Final[Mapping[str, Collection[int]]] = {
    "2": {16}, "3": range(14, 20), "4": {13, 16, 18, 19}, "5": _CARD_DIGITS, "6": _CARD_DIGITS,
}  # fmt: skip

_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
_ZERO: Final = ord("0")

_IBAN_START: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}")
_IBAN_LENGTHS: Final[Mapping[str, int]] = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip

#: By their lengths: letters and digits, single blanks and hyphens between them.
_ACCOUNTS: Final = {
    length: re.compile(rf"(?:[A-Za-z0-9][ -]?){{{length - 1}}}[A-Za-z0-9](?![A-Za-z0-9])")
    for length in set(_IBAN_LENGTHS.values())
}
#: What a letter counts (ISO 13616).
_IBAN_VALUES: Final = {f"{n:x}".upper() if n < 16 else chr(55 + n): str(n) for n in range(36)}

_LOCAL_MAX: Final = 64
_LOCAL: Final = re.compile(r"[^\s<>()\[\],;:\"'@\\]+\Z")
_DOMAIN: Final = re.compile(r"(?:[^\s<>()\[\],;:\"'@\\/.?&=#]{1,63}\.){1,10}[^\W\d_]{2,63}")

#: Keys by what stands in each as it is: found at once, where a search for any of them would look at
#: every character in many ways.
_KEYS: Final[Mapping[str, re.Pattern[str]]] = {
    begin: re.compile(form)
    for form, begins in {
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b": ("AKIA", "ASIA"),
        r"gh[pousr]_[A-Za-z0-9]{36,}": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        r"github_pat_[A-Za-z0-9_]{22,}": ("github_pat_",),
        r"glpat-[A-Za-z0-9_-]{20,}": ("glpat-",),
        r"\bsk-[A-Za-z0-9_-]{20,}": ("sk-",),
        r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}": ("sk_live_", "sk_test_", "rk_live_", "rk_test_"),
        r"xox[abeprs]-[A-Za-z0-9-]{10,}": ("xox",),
        r"AIza[A-Za-z0-9_-]{35}": ("AIza",),
        r"\bya29\.[A-Za-z0-9_-]{20,}": ("ya29.",),
        r"npm_[A-Za-z0-9]{36}": ("npm_",),
        r"pypi-[A-Za-z0-9_-]{16,}": ("pypi-",),
        r"\bhf_[A-Za-z0-9]{30,}": ("hf_",),
        r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}": ("SG.",),
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]*": ("eyJ",),
    }.items()
    for begin in begins
}
_SCHEMES: Final = ("bearer", "basic")
_CREDENTIAL: Final = re.compile(
    r"(?i:\b(?:bearer|basic)[ \t]{1,8}(?=[A-Za-z0-9._~+/-]*[0-9])[A-Za-z0-9._~+/-]{16,}=*)"
)
_KEY_BEGINS: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def mask(text: str, detectors: Iterable[str]) -> str:
    """The text with all that the detectors find in it masked; the same object if nothing is."""
    spans = sorted(span for name in detectors for span in DETECT[name](text))
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for begin, end in spans:
        if begin >= at:
            parts += (text[at:begin], MASK)
        at = max(at, end)
    parts.append(text[at:])
    return "".join(parts)


def begins_private_key(line: str) -> bool:
    """Whether a private key begins in a line and does not end there."""
    begins = [found.end() for found in _KEY_BEGINS.finditer(line)]
    return bool(begins) and _KEY_ENDS.search(line, begins[-1]) is None


def ends_private_key(line: str) -> int | None:
    """Where in a line a private key that began before it ends; None if it does not."""
    found = _KEY_ENDS.search(line)
    return found.end() if found is not None else None


def _card_numbers(text: str) -> Iterator[Span]:
    """Whole groups of digits that together have the right length and check digit."""
    for run in _DIGIT_RUN.finditer(text):
        if run.end() - run.start() < _CARD_DIGITS.start:
            continue
        groups = [(run.start() + g.start(), run.start() + g.end()) for g in _GROUP.finditer(run[0])]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is not None:
                yield groups[first][0], groups[last][1]
                first = last
            first += 1


def _card_from(text: str, groups: list[Span], first: int) -> int | None:
    """The last group of the longest card number that begins with a group."""
    lengths = _NETWORKS.get(text[groups[first][0]])
    if lengths is None:
        return None
    digits, found = "", None
    for last in range(first, min(len(groups), first + _GROUPS_MAX)):
        digits += text[groups[last][0] : groups[last][1]]
        if len(digits) >= _CARD_DIGITS.stop:
            break
        if len(digits) in lengths and _luhn(digits):
            found = last
    return found


def _luhn(digits: str) -> bool:
    """Every second digit from the right is doubled, and its digits are added up."""
    backwards = digits.encode()[::-1]
    singles, doubles = backwards[::2], backwards[1::2].translate(_DOUBLED)
    return (sum(singles) + sum(doubles) - len(digits) * _ZERO) % 10 == 0


def _ibans(text: str) -> Iterator[Span]:
    for start in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(start[0][:2].upper())
        end = _read_account(text, start.start(), length) if length is not None else None
        if end is not None:
            yield start.start(), end


def _read_account(text: str, start: int, length: int) -> int | None:
    """Where an IBAN ends that has so many characters, single blanks and hyphens apart."""
    found = _ACCOUNTS[length].match(text, start)
    if found is None:
        return None
    account = found[0].replace(" ", "").replace("-", "").upper()
    turned = account[4:] + account[:4]
    is_one = int("".join([_IBAN_VALUES[character] for character in turned])) % 97 == 1
    return found.end() if is_one else None


def _emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        if domain is not None:
            local = _LOCAL.search(text, max(0, at - _LOCAL_MAX), at)
            if local is not None:
                yield local.start(), domain.end()
        at = text.find("@", at + 1)


def _api_keys(text: str) -> Iterator[Span]:
    for begin, form in _KEYS.items():
        at = text.find(begin)
        while at >= 0:
            found = form.match(text, at)
            if found is not None:
                yield found.span()
                if form.pattern.endswith(",}"):
                    at = max(at, found.end() - len(begin))
            at = text.find(begin, at + 1)
    # As a search that ignores case does: more than one letter is an i, and an s.
    folded = text.replace("\u0130", "i").replace("\u0131", "i").casefold()
    if any(scheme in folded for scheme in _SCHEMES):
        yield from (found.span() for found in _CREDENTIAL.finditer(text))


def _private_keys(text: str) -> Iterator[Span]:
    """From BEGIN to END, or to the end of the text where there is none."""
    at = 0
    while (begins := _KEY_BEGINS.search(text, at)) is not None:
        ends = _KEY_ENDS.search(text, begins.end())
        at = ends.end() if ends is not None else len(text)
        yield begins.start(), at


DETECT: Final[Mapping[str, Detector]] = {
    "card_number": _card_numbers,
    "iban": _ibans,
    "email": _emails,
    "api_key": _api_keys,
    "private_key": _private_keys,
}
