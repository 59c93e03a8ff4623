"""Canaries: texts that stand nowhere else, and the search for them in whatever form.

Knows: how a value can be hidden in bytes: cut, escaped, percent-encoded, in hex or base64 at any
alignment, as the digest of the bare value. A keyed digest is not searched for: it may be kept.
Must not know: the sidecar, where canaries are planted.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: So much of either end of a value is found too: values are cut where they are shown.
_PIECE = 12
#: So much of a digest is enough: digests are cut where they are keys.
_DIGEST_PIECE = 16
#: What is a canary's own in a value that has a form, like a key's.
_WORD = re.compile("k[0-9a-f]{19}")


@dataclass(frozen=True)
class Canary:
    """A secret by the name of what it stands for."""

    name: str
    value: str
    forms: Mapping[str, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        inside = _WORD.search(self.value)
        object.__setattr__(self, "forms", forms(inside[0] if inside else self.value))

    def found_in(self, haystack: bytes) -> list[str]:
        """The forms in which it is there."""
        return [form for form, needle in self.forms.items() if needle in haystack]


def word() -> str:
    """A value that no other text holds by chance: 20 letters and digits, a letter first."""
    return f"k{secrets.token_hex(10)[:19]}"


def forms(value: str) -> dict[str, bytes]:
    """Every form of a value that is searched for."""
    raw = value.encode()
    digest = hashlib.sha256(raw)
    found = {
        "plain, its beginning": raw[:_PIECE],
        "plain, its end": raw[-_PIECE:],
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "percent-encoded": _each(raw, "%{:02x}"),
        "PERCENT-ENCODED": _each(raw, "%{:02X}"),
        "JSON escapes": _each(raw, "\\u{:04x}"),
        "SHA-256 in hex": digest.hexdigest()[:_DIGEST_PIECE].encode(),
        "SHA-256 in base64": base64.b64encode(digest.digest())[:_DIGEST_PIECE],
        "SHA-256": digest.digest()[:_DIGEST_PIECE],
    }
    for shift in range(3):
        found[f"base64, shifted by {shift}"] = _base64_inside(raw, shift)
    return found


def leaks(canaries: Iterable[Canary], haystack: bytes) -> dict[str, list[str]]:
    """By name, the forms in which canaries are there."""
    found = {one.name: one.found_in(haystack) for one in canaries}
    return {name: forms for name, forms in found.items() if forms}


def card_number() -> str:
    """A number of 16 digits that passes for a payment card's."""
    digits = "4" + "".join(secrets.choice("0123456789") for _ in range(14))
    return next(f"{digits}{last}" for last in range(10) if _luhn_sum(f"{digits}{last}") % 10 == 0)


def iban() -> str:
    """An account number in Germany's form with the right check digits."""
    account = "".join(secrets.choice("0123456789") for _ in range(18))
    check = 98 - int(f"{account}131400") % 97
    return f"DE{check:02d}{account}"


def _luhn_sum(number: str) -> int:
    doubled = (sum(divmod(int(digit) * 2, 10)) for digit in number[-2::-2])
    return sum(map(int, number[-1::-2])) + sum(doubled)


def _each(raw: bytes, pattern: str) -> bytes:
    return "".join(pattern.format(byte) for byte in raw).encode()


def _base64_inside(raw: bytes, shift: int) -> bytes:
    """What base64 makes of the value wherever it stands, its neighbours left out."""
    encoded = base64.b64encode(b"\0" * shift + raw)
    first = (0, 2, 3)[shift]
    return encoded[first : (shift + len(raw)) * 8 // 6]
