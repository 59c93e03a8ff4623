"""The files that pages load, read once: each with its type, its mark, and how long it lasts.

Knows: that a file with its version in its name never changes, and that a browser asks again for any
other, and is told by its mark whether it has it already.
Must not know: HTTP libraries, the pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

#: Every file that is served, and its type; what else lies in the folder is not.
KINDS: Final[Mapping[str, str]] = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "htmx-2.0.11.min.js": "text/javascript",
    "htmx-ext-sse-2.2.4.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "uplot-1.6.32.min.js": "text/javascript",
    "uplot-1.6.32.min.css": "text/css",
}
_LASTING: Final = "public, max-age=31536000, immutable"
_ASKED_AGAIN: Final = "no-cache"
_MARK_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: `mark` is its ETag without quotes."""

    body: bytes
    kind: str
    mark: str
    caching: str


def read_assets() -> Mapping[str, Asset]:
    """All of them, by name. Reads files: at the start, before anybody waits."""
    folder = files("sidecar.control.console") / "static"
    return {name: _asset(name, kind, (folder / name).read_bytes()) for name, kind in KINDS.items()}


def _asset(name: str, kind: str, body: bytes) -> Asset:
    mark = sha256(body).hexdigest()[:_MARK_CHARACTERS]
    return Asset(body, kind, mark, _LASTING if ".min." in name else _ASKED_AGAIN)
