"""Detectors: what in a text is a card number, an IBAN, an e-mail address, a key; and its mask.

Knows: forms and check digits. Each detector's cost is bounded by the text's length times a
constant, and no single search goes over more than a piece of a long text, so that a thread which
masks one lets the event loop in between. Digits and letters of the forms are ASCII, and what stands
for them, and for blanks and hyphens, in numbers that `mask` is given is read so. Except for a
private key, nothing that is found reaches over the end of a line.
Must not know: where texts come from, which detectors a rule asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from sidecar.proxy.odd_digits import plainly

MASK: Final = "***"

Span = tuple[int, int]
Detector = Callable[[str], Iterator[Span]]

#: So much of a text is searched at once, in characters.
_PIECE: Final = 16 * 1024

_CARD_DIGITS: Final = range(13, 20)
_GROUPS_MAX: Final = 6
#: Digits stand together, or in groups of at least three; a group of more is in no card's number.
#: Of a run of many groups so many are read at once.
_RUN_GROUPS: Final = 256
#: Where there are more, all digits are added up once, and not for each number again.
_FEW_GROUPS: Final = 8
_RUN_REACH: Final = _RUN_GROUPS * _CARD_DIGITS.stop


def _digit_run(groups_max: int) -> re.Pattern[str]:
    """Groups in a row, with as many digits as a card number takes."""
    return re.compile(
        r"[0-9](?<![0-9][0-9])(?=[0-9]{2}[0-9 -]{10})(?=(?:[ -]?[0-9]){12})[0-9]{2,18}+(?![0-9])"
        rf"(?:[ -][0-9]{{3,19}}+(?![0-9])){{0,{groups_max - 1}}}"
    )


_DIGIT_RUN: Final = _digit_run(_RUN_GROUPS)
#: Lengths of card numbers by the digit of the payment network they begin with.
_NETWORKS: Final[Mapping[str, Collection[int]]] = {
    "2": {16}, "3": range(14, 20), "4": {13, 16, 18, 19}, "5": _CARD_DIGITS, "6": _CARD_DIGITS,
}  # fmt: skip

#: What a digit counts, and what one that is doubled does.
_SINGLE: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))

#: Two digits, with the two letters before them: there are fewer digits in most texts.
_IBAN_START: Final = re.compile(r"[0-9](?<=(?<![A-Za-z0-9])[A-Za-z]{2}[0-9])[0-9]")
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
    length: re.compile(rf"(?:[A-Za-z0-9][ -]?+){{{length - 1}}}+[A-Za-z0-9](?![A-Za-z0-9])")
    for length in set(_IBAN_LENGTHS.values())
}
#: What digits and letters count (ISO 13616), in tens, which digits have none of, and in units.
_IBAN_CHARACTERS: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_IBAN_TENS: Final = bytes.maketrans(_IBAN_CHARACTERS, b" " * 10 + 2 * b"11111111112222222222333333")
_IBAN_UNITS: Final = bytes.maketrans(
    _IBAN_CHARACTERS, b"0123456789" + 2 * b"01234567890123456789012345"
)

_LOCAL_MAX: Final = 64
_LOCAL: Final = re.compile(r"[^\s<>()\[\],;:\"'@\\]+")
_DOMAIN: Final = re.compile(r"@(?:[^\s<>()\[\],;:\"'@\\/.?&=#]{1,63}\.){1,10}[^\W\d_]{2,63}")
_DOMAIN_REACH: Final = 1 + 10 * 64 + 63

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
#: How the forms end whose keys go on for as long as their letters do; of the others another key may
#: begin within one, and reach beyond it.
_AS_LONG_AS_IT_IS: Final = ",}"
_SCHEMES: Final = ("bearer", "basic")
_SCHEME: Final = re.compile(r"(?i:\b(?:bearer|basic)[ \t]{1,8})")
_SCHEME_REACH: Final = 6 + 8
_CREDENTIAL: Final = re.compile(r"(?i:(?=[A-Za-z._~+/-]*+[0-9])[A-Za-z0-9._~+/-]{16,}+=*)")
_KEY_BEGINS: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def mask(text: str, detectors: Iterable[str]) -> str:
    """The text with all that the detectors find in it masked; the same object if nothing is."""
    size = len(text)
    plain = plainly(text)
    spans = [
        span
        for name in detectors
        if size >= _LEAST[name]
        for span in DETECT[name](plain if name in _OF_DIGITS else text)
    ]
    if not spans:
        return text
    spans.sort()
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


def _found(form: re.Pattern[str], text: str, reach: int) -> Iterator[re.Match[str]]:
    """What `form.finditer` finds, piece by piece; a match, with what is looked at behind it, is at
    most `reach` characters."""
    at, size = 0, len(text)
    while at < size:
        end = at + _PIECE
        for found in form.finditer(text, at, min(size, end + reach)):
            if found.start() >= end:
                break
            yield found
            at = found.end()
        at = max(at, end)


def _card_numbers(text: str) -> Iterator[Span]:
    """Whole groups of digits that together have the right length and check digit."""
    at, size = 0, len(text)
    while at < size:
        end = at + _PIECE
        run = _DIGIT_RUN.search(text, at, min(size, end + _RUN_REACH))
        if run is None or run.start() >= end:
            at = end
            continue
        start, at = run.span()
        if at - start < _CARD_DIGITS.start:
            continue
        groups = run[0].replace("-", " ").split(" ")
        if len(groups) == 1:
            if len(run[0]) in _NETWORKS.get(run[0][0], ()) and _luhn(run[0]):
                yield start, at
            continue
        may_go_on = len(groups) == _RUN_GROUPS
        first_left = len(groups) - _GROUPS_MAX + 1 if may_go_on else len(groups)
        begins = list(accumulate((len(one) + 1 for one in groups), initial=start))
        for first, last in _cards_among(groups, first_left):
            yield begins[first], begins[last] - 1
            first_left = max(first_left, last)
        if may_go_on:
            at = begins[first_left]


def _cards_among(groups: list[str], until: int) -> Iterator[tuple[int, int]]:
    """The longest card numbers that begin with groups before `until`, as the places of their first
    group and of the one behind their last."""
    ends = list(accumulate(map(len, groups), initial=0))
    digits = "".join(groups)
    sums = _added_up(digits.encode()) if len(groups) > _FEW_GROUPS else None
    first, begin_last = 0, len(digits) - _CARD_DIGITS.start
    while first < until and (begin := ends[first]) <= begin_last:
        lengths = _NETWORKS.get(groups[first][0])
        behind = 0
        if lengths is not None:
            for last in range(first + 1, min(first + _GROUPS_MAX, len(groups)) + 1):
                end = ends[last]
                size = end - begin
                if size < 13:
                    continue
                if size > 19:
                    break
                if sums is None:
                    is_card = size in lengths and _luhn(digits[begin:end])
                else:
                    counted = sums[end & 1]
                    is_card = (counted[end] - counted[begin]) % 10 == 0 and size in lengths
                if is_card:
                    behind = last
        if behind:
            yield first, behind
            first = behind
        else:
            first += 1


def _added_up(digits: bytes) -> tuple[list[int], list[int]]:
    """What the digits up to each place count: in numbers that end at an even place those at even
    places are doubled, in others those at odd ones."""
    even = bytearray(digits.translate(_SINGLE))
    odd, doubled = even[:], digits.translate(_DOUBLED)
    even[::2], odd[1::2] = doubled[::2], doubled[1::2]
    return list(accumulate(even, initial=0)), list(accumulate(odd, initial=0))


def _luhn(digits: str) -> bool:
    """Every second digit from the right is doubled, and its digits are added up."""
    backwards = digits.encode()[::-1]
    singles, doubles = backwards[::2].translate(_SINGLE), backwards[1::2].translate(_DOUBLED)
    return (sum(singles) + sum(doubles)) % 10 == 0


def _ibans(text: str) -> Iterator[Span]:
    for digits in _found(_IBAN_START, text, 2):
        start = digits.start() - 2
        length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
        end = _read_account(text, start, length) if length is not None else None
        if end is not None:
            yield start, end


def _read_account(text: str, start: int, length: int) -> int | None:
    """Where an IBAN ends that has so many characters, single blanks and hyphens apart."""
    found = _ACCOUNTS[length].match(text, start)
    if found is None:
        return None
    account = found[0].encode().translate(None, b" -")
    turned = account[4:] + account[:4]
    digits = bytearray(2 * length)
    digits[::2], digits[1::2] = turned.translate(_IBAN_TENS), turned.translate(_IBAN_UNITS)
    is_one = int(digits.translate(None, b" ")) % 97 == 1
    return found.end() if is_one else None


def _emails(text: str) -> Iterator[Span]:
    for domain in _found(_DOMAIN, text, _DOMAIN_REACH):
        at = domain.start()
        # Backwards, so that it is met where it ends.
        local = _LOCAL.match(text[max(0, at - _LOCAL_MAX) : at][::-1])
        if local is not None:
            yield at - local.end(), domain.end()


def _api_keys(text: str) -> Iterator[Span]:
    for begin, form in _KEYS.items():
        at = text.find(begin)
        while at >= 0:
            found = form.match(text, at)
            if found is not None:
                yield found.span()
                if form.pattern.endswith(_AS_LONG_AS_IT_IS):
                    # What begins within ends with it; what begins with its end may go on.
                    at = max(at, found.end() - len(begin))
            at = text.find(begin, at + 1)
    if not _may_hold_scheme(text):
        return
    done = 0
    for scheme in _found(_SCHEME, text, _SCHEME_REACH):
        credential = _CREDENTIAL.match(text, scheme.end())
        if credential is not None and scheme.start() >= done:
            done = credential.end()
            yield scheme.start(), done


def _may_hold_scheme(text: str) -> bool:
    """As a search that ignores case looks: more than one letter is an i, and an s."""
    if text.isascii():
        folded = text.lower()
        return any(scheme in folded for scheme in _SCHEMES)
    for at in range(0, len(text), _PIECE):
        piece = text[at : at + _PIECE + _SCHEME_REACH]
        folded = piece.replace("\u0130", "i").replace("\u0131", "i").casefold()
        if any(scheme in folded for scheme in _SCHEMES):
            return True
    return False


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

#: What may be set with odd blanks, hyphens and digits.
_OF_DIGITS: Final = frozenset({"card_number", "iban"})
#: The fewest characters in which a detector can find anything: crowds of short texts cost little.
_LEAST: Final[Mapping[str, int]] = {
    "card_number": 13, "iban": 15, "email": 6, "api_key": 15, "private_key": 27,
}  # fmt: skip
