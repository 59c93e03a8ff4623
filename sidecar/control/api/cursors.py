"""Cursors: where a list left off, as a text that only a sidecar of this store can have made.

Knows: that a cursor is bound to its route, its tenant and its filters, so that none of another
list, of another tenant or of somebody's own making is taken.
Must not know: what a position means, where the key is kept.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidecar.control.api.problems import ApiProblem

KEY_BYTES: Final = 32
_MAC_BYTES: Final = 16

Position = Sequence[int | str]


class Cursors:
    """Makes and reads cursors."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def made(self, route: str, tenant: str, filters: Mapping[str, Any], at: Position) -> str:
        """The cursor for the page after this one."""
        place = json.dumps(list(at), separators=(",", ":")).encode()
        mac = self._mac(route, tenant, filters, place)
        return base64.urlsafe_b64encode(mac + place).decode().rstrip("=")

    def read(self, route: str, tenant: str, filters: Mapping[str, Any], cursor: str) -> Position:
        """The position in a cursor; raises ApiProblem unless it was made for this very list."""
        try:
            raw = base64.b64decode(
                cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True
            )
        except (UnicodeEncodeError, binascii.Error, ValueError):
            raise _invalid() from None
        mac, place = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(route, tenant, filters, place)):
            raise _invalid()
        position: list[int | str] = json.loads(place)
        return position

    def _mac(self, route: str, tenant: str, filters: Mapping[str, Any], place: bytes) -> bytes:
        bound = json.dumps([route, tenant, sorted(filters.items()), place.decode("latin-1")])
        return hmac.digest(self._key, bound.encode(), "sha256")[:_MAC_BYTES]


def _invalid() -> ApiProblem:
    return ApiProblem("invalid_cursor", parameter="cursor")
