"""Addresses of the console: where a form leads back to, what a page is asked with.

Knows: that nobody is led elsewhere, whatever a form or a header names, and that a form sends every
field, also those that ask for nothing.
Must not know: HTTP libraries, the pages there are.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.control.api.route import Asked
from sidecar.control.api.times import time_text
from sidecar.control.console.page import PREFIX, Page

#: What is kept of the path that a form leads back to.
BACK_MAX: Final = 2_048


def ours(back: str) -> str:
    """A place of the console to go to: never one of another site, whatever a form names."""
    is_ours = back == PREFIX or back.startswith((f"{PREFIX}/", f"{PREFIX}?"))
    is_plain = back.isascii() and back.isprintable() and "\\" not in back
    return back if is_ours and is_plain and len(back) <= BACK_MAX else PREFIX


def filters(asked: Asked) -> dict[str, Any]:
    """What a list is asked for, but for the place in it."""
    return {k: v for k, v in asked.values.items() if k not in ("cursor", "limit")}


def given(page: Page, asked: Asked) -> list[tuple[str, str]]:
    """The filters that are not as they are by default, as a query writes them."""
    found = []
    for one in page.parameters:
        value = asked.values.get(one.name)
        if one.place != "query" or one.name == "cursor" or value in (None, one.default):
            continue
        is_time = one.name in ("from", "to")
        text = time_text(value) if is_time else str(value).lower() if value is True else str(value)
        found.append((one.name, text))
    return found


def without_empty(raw: str) -> str:
    """A form sends every field; one that was left empty asks for nothing."""
    return "&".join(pair for pair in raw.split("&") if pair.partition("=")[2])
