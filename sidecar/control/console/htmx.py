"""What htmx is told of these pages, and what it says with a request.

Knows: that htmx asks for the same pages and sends the same forms as a browser does without it, and
takes a part of what comes back; its settings, by which nothing of a page is evaluated, kept or sent
elsewhere, and whatever went wrong is shown. What it says by its headers is believed of how an
answer is given (where to sign in, whether a notice is seen) and that nobody asked for it himself,
never of whether it is given.
Must not know: HTTP libraries, what is on a page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

#: The part of every page that a form's answer takes the place of (base.html).
PAGE: Final = "page"
#: The element that asks for a list again and again (approvals.html).
LOOK_AGAIN: Final = "look-again"
#: What an answer depends on beside its address and cookie.
VARY: Final = "HX-Request, HX-Target, HX-Current-URL"

_SETTINGS: Final = {
    # Nothing in a page is code: `hx-on`, filters of triggers and `js:` values do nothing.
    "allowEval": False,
    "allowScriptTags": False,
    "selfRequestsOnly": True,
    # The policy of contents allows no style but the sheet's.
    "includeIndicatorStyles": False,
    "attributesToSettle": ["class"],
    # No page is kept in the browser's storage.
    "historyEnabled": False,
    "historyCacheSize": 0,
    "historyRestoreAsHxRequest": False,
    # Each form says itself what becomes of it; nothing inside of an answer says more.
    "disableInheritance": True,
    "allowNestedOobSwaps": False,
    "ignoreTitle": True,
    "timeout": 60_000,
    # What failed is told on the page from which it was asked; nothing of that is lost.
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {
            "code": "...",
            "swap": True,
            "error": True,
            "target": "#problem",
            "select": f"#{PAGE} > *",
            "swapOverride": "innerHTML show:window:top",
        },
    ],
}
#: As `<meta name="htmx-config">` has it.
SETTINGS: Final = json.dumps(_SETTINGS)


def is_asking(headers: Mapping[str, str]) -> bool:
    """Whether htmx asks, and takes a part of the answer."""
    return headers.get("HX-Request") == "true"


def is_by_itself(headers: Mapping[str, str]) -> bool:
    """Whether a list looks again without anybody's doing."""
    return is_asking(headers) and headers.get("HX-Trigger") == LOOK_AGAIN


def shows_notice(headers: Mapping[str, str]) -> bool:
    """Whether what an answer has above the page is seen: a list that looks again, and a part that
    is explained, leave it out."""
    return not is_asking(headers) or headers.get("HX-Target") == PAGE


def stands_at(headers: Mapping[str, str]) -> str:
    """Path and query of the page from which htmx asks; "" if it does not say."""
    try:
        there = urlsplit(headers.get("HX-Current-URL", ""))
    except ValueError:
        return ""
    return there.path + (f"?{there.query}" if there.query else "")
